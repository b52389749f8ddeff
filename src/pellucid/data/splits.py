"""Three disjoint splits of the inputs: to fit readings, to describe them, to verify them.

Which split a sample belongs to is a function of the sample and the seed alone: its key, hashed with the seed, is a
number from 0 to 1, and the shares cut that interval in three. So duplicates stay together; the order of a file, samples
added to it, or another draw of a sampler cannot move a sample to another split; and the verify split of fresh samples,
drawn later, is known to hold nothing that was fitted to. Only where so few samples are given that a split would stay
empty, the cuts move to the nearest places that leave a sample in each.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64

from pellucid.data.batches import Batch, keys
from pellucid.data.domain import Domain
from pellucid.data.inputs import Inputs
from pellucid.errors import BadInput

NAMES = ("fit", "describe", "verify")
SHARES = (0.4, 0.2, 0.4)


@dataclass(frozen=True, eq=False)
class Splits:
    """The inputs that readings are fitted to, those that descriptions are made from, and those that verdicts use.

    They share no sample, unless the inputs are a finite domain: then each is the whole domain, because a proof by
    enumeration may look at everything.
    """

    fit: Inputs
    describe: Inputs
    verify: Inputs


def split(inputs: Inputs, seed: int = 0, shares: tuple[float, float, float] = SHARES) -> Splits:
    """Split the inputs by content; `shares` are of distinct samples, and met as well as a hash meets them.

    Raises BadInput if there are fewer than three distinct samples.

    >>> from pellucid.data.inputs import gather
    >>> splits = split(gather(np.arange(1000)))
    >>> len(splits.fit), len(splits.describe), len(splits.verify)
    (405, 184, 411)
    """
    if min(shares) <= 0 or abs(sum(shares) - 1) > 1e-9:
        raise BadInput(f"shares {shares}: not three positive numbers that add up to 1: give, say, {SHARES}")
    if isinstance(inputs.samples, Domain):
        return Splits(inputs, inputs, inputs)
    places = [_places(batch, seed) for batch in inputs.samples]
    cuts = _cuts(np.unique(np.concatenate(places)), shares, inputs.description)
    sides = [np.searchsorted(cuts, place, side="right") for place in places]
    parts = []
    for number, name in enumerate(NAMES):
        rows = [torch.from_numpy(np.flatnonzero(side == number)) for side in sides]
        samples = tuple(batch.rows(at) for batch, at in zip(inputs.samples, rows, strict=True) if len(at))
        count = sum(map(len, samples))
        parts.append(Inputs(samples, f"{count:,} samples to {name} (seed {seed}), of {inputs.description}"))
    return Splits(*parts)


def _places(batch: Batch, seed: int) -> Float64[np.ndarray, " rows"]:
    """Return where each sample lies between 0 and 1: equal for equal samples, uniform over distinct ones."""
    salt = hashlib.blake2b(f"pellucid split {seed}".encode(), digest_size=16).digest()
    hashes = b"".join(hashlib.blake2b(key, key=salt, digest_size=8).digest() for key in keys(batch))
    return np.frombuffer(hashes, dtype="<u8") / 2.0**64


def _cuts(
    places: Float64[np.ndarray, " distinct"], shares: tuple[float, float, float], name: str
) -> Float64[np.ndarray, "2"]:
    """Return where describe and verify begin. `places` are sorted."""
    count = len(places)
    if count < 3:
        raise BadInput(f"{name}: {count} distinct samples, but three disjoint splits need 3 or more: give more samples")
    cuts = np.array([shares[0], shares[0] + shares[1]])
    ends = np.searchsorted(places, cuts, side="left")
    if 0 < ends[0] < ends[1] < count:
        return cuts
    first = min(max(ends[0], 1), count - 2)
    return places[[first, min(max(ends[1], first + 1), count - 1)]]
