"""Inputs: whatever a user gives, read and checked, as samples that a network can be run on.

1. `gather` finds out what it was given: a tensor or array, a mapping of argument names, a tuple of arguments, an
   iterable of batches, a sampler, a `Domain`, or the path of a file.
2. Every array is checked (numbers, finite, one row per sample) and brought to float32, int64 or bool.
3. Samples of one shape are put together; nothing is padded. At most `limit` are kept, and the description says so.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from pellucid.data.arrays import one_line
from pellucid.data.batches import Argument, Batch, argument_label, batch_of, joined, keys
from pellucid.data.bounds import Found, Terms, drawn, first
from pellucid.data.domain import Domain
from pellucid.data.files import read_file
from pellucid.data.texts import SHORTEST, Tokenizer, sequences
from pellucid.errors import BadInput

Sampler = Callable[[np.random.Generator, int], Any]
"""`f(rng, n)` draws n samples from `rng` alone and returns them as an array, a mapping, a tuple, or a list of these."""

LIMIT = 10_000
DOMAIN_LIMIT = 2**22
DRAW = 256
"""A sampler is asked for this many samples at a time."""

USER_CODE_ERRORS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)
KINDS = "a tensor, an array, a mapping, an iterable of these, a sampler f(rng, n), data.Domain, or the path of a file"


@dataclass(frozen=True, eq=False)
class Inputs:
    """Samples to run a network on, in batches of equal shape, or a whole finite domain. Made by `gather`."""

    samples: tuple[Batch, ...] | Domain
    description: str

    @property
    def kind(self) -> Literal["sampled", "domain"]:
        """`domain` if these are all inputs there are, so that a verdict over them is proved."""
        return "domain" if isinstance(self.samples, Domain) else "sampled"

    def __len__(self) -> int:
        return self.samples.size if isinstance(self.samples, Domain) else sum(len(batch) for batch in self.samples)

    def __iter__(self) -> Iterator[Batch]:
        return self.batches()

    def batches(self, rows: int = 256) -> Iterator[Batch]:
        """Yield every sample once, in batches of at most `rows` samples of one shape, always in the same order."""
        if isinstance(self.samples, Domain):
            return self.samples.batches(rows)
        return chain.from_iterable(batch.cut(rows) for batch in self.samples)

    @cached_property
    def arguments(self) -> tuple[Argument, ...]:
        """Which arguments of the network the samples have: positions and names."""
        return tuple(next(self.batches(1)).arrays)

    @cached_property
    def example(self) -> Batch:
        """A batch of 2 to 4 rows for tracing: of the largest samples, and no axis as long as the batch where it can be.

        A single sample is repeated, because an axis of length 1 would be taken for a constant.
        """
        groups = (
            [b.enumerated(0, min(4, b.size)) for b in self.samples.blocks]
            if isinstance(self.samples, Domain)
            else self.samples
        )
        best = max(groups, key=lambda batch: (min(len(batch), 2), batch.nbytes // len(batch)))
        if len(best) == 1:
            return best.rows(torch.tensor([0, 0]))
        axes = {length for _, _, shape in best.signature for length in shape}
        sizes = [rows for rows in (2, 3, 4) if rows <= len(best)]
        return best.rows(slice(0, next((rows for rows in sizes if rows not in axes), sizes[0])))

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all samples in their order, or of the declaration of a domain."""
        if isinstance(self.samples, Domain):
            return self.samples.fingerprint
        return hashlib.blake2b(
            b"".join(key for batch in self.samples for key in keys(batch)), digest_size=16
        ).hexdigest()

    def floating(self, which: bool | Collection[Argument] = True) -> Inputs:
        """Return the same samples with integers and booleans as float32: of all arguments, or of those named."""
        if isinstance(self.samples, Domain):
            return Inputs(self.samples.floating(which), self.description)
        return Inputs(tuple(batch.floating(which) for batch in self.samples), self.description)

    def take(self, rows: int, seed: int = 0) -> Inputs:
        """Return at most `rows` of these samples, drawn with a seed. A part of a domain is no domain: it is sampled."""
        if len(self) <= rows:
            return self
        rng = np.random.default_rng(seed)
        if isinstance(self.samples, Domain):
            part = tuple(self.samples.sample(rng, rows))
        else:
            picks = np.sort(rng.choice(len(self), size=rows, replace=False))
            part = tuple(_rows_at(self.samples, torch.from_numpy(picks)))
        return Inputs(part, f"{rows:,} of {self.description}")


def gather(
    inputs: object,
    *,
    limit: int | None = None,
    seed: int = 0,
    tokenizer: Tokenizer | None = None,
    context: int = 256,
    vocabulary: int | Mapping[Argument, int] | None = None,
    floating: bool | Collection[Argument] = False,
    arguments: Sequence[str] | None = None,
) -> Inputs:
    """Read and check `inputs`.

    inputs: a tensor or array (the first argument); a mapping of argument names to these; a tuple of them (positional
        arguments); an iterable of batches, each any of these (or a list of positional arguments, as from a DataLoader)
        or, with a tokenizer, a string; a sampler; a `Domain`; or the path of a `.npz`, `.npy`, `.parquet` or
        `.txt` file. Samples are rows along axis 0. `Inputs` come back as they are, checked.
    limit: keep at most this many samples, 10,000 unless told (of an iterable the first, else drawn with `seed`); a
        domain is never cut, but refused if it is larger than this (2**22 unless told).
    tokenizer, context: for texts; sequences of at most `context` tokens.
    vocabulary: how many ids there are, for the argument `input_ids` or else the first one, or by argument.
    floating: turn integers and booleans into float32, in all arguments or in those named, for networks that compute
        with them. Otherwise integers become int64, to serve as ids.
    arguments: the names of the network's arguments in order; others are refused.
    Raises BadInput.

    >>> inputs = gather(lambda rng, n: rng.standard_normal((n, 3)), limit=1000)
    >>> inputs.description, inputs.arguments, tuple(next(inputs.batches(rows=64)).args[0].shape)
    ('1,000 samples from a sampler (seed 0)', (0,), (64, 3))
    """
    if limit is not None and limit < 1:
        raise BadInput(f"limit {limit}: no samples would be left: give at least 1")
    if isinstance(inputs, Inputs):
        gathered = inputs.floating(floating) if floating else inputs
    elif isinstance(inputs, Domain):
        gathered = _whole(inputs.floating(floating) if floating else inputs, DOMAIN_LIMIT if limit is None else limit)
    else:
        gathered = _sampled(inputs, Terms(LIMIT if limit is None else limit, seed, tokenizer, context, floating))
    _check_arguments(gathered, arguments)
    _check_present(gathered, () if isinstance(floating, bool) else floating, "floating")
    if vocabulary is not None:
        _check_ids(gathered, vocabulary)
    return gathered


def _whole(domain: Domain, limit: int) -> Inputs:
    if domain.size > limit:
        size = f"{domain.size:,}" if domain.size < 10**15 else f"about 10**{math.log10(domain.size):.0f}"
        raise BadInput(
            f"domain of {size} samples: above the limit of {limit:,}: declare a smaller one, raise `limit`, "
            "or give its sampler (domain.sample), for verdicts on a sample"
        )
    return Inputs(domain, f"all {domain.size:,} samples of a finite domain")


def _sampled(inputs: object, terms: Terms) -> Inputs:
    name, found = _found(inputs, terms)
    samples = joined(found.batches, name)
    if not samples:
        raise BadInput(f"{name}: no samples: give at least one")
    notes = f" ({'; '.join(found.notes)})" if found.notes else ""
    return Inputs(samples, f"{sum(map(len, samples)):,} samples from {name}{notes}")


def _found(inputs: object, terms: Terms) -> tuple[str, Found]:
    """Return what the inputs are called in messages, and what is in them."""
    if isinstance(inputs, str | os.PathLike):
        path = Path(os.fspath(inputs))
        return path.name, read_file(path, terms)
    if isinstance(inputs, torch.nn.Module):
        raise BadInput("inputs: a module: give the model first, then its inputs")
    if isinstance(inputs, Tensor | Mapping | tuple) or hasattr(inputs, "__array__"):
        return "inputs", drawn(inputs, "inputs", terms)
    if isinstance(inputs, Iterable):
        return "an iterable", first(_stream(inputs, terms), terms)
    if callable(inputs):
        return "a sampler", _drawn_from(inputs, terms)
    raise BadInput(f"inputs: {type(inputs).__name__} is none of the known kinds: give {KINDS}")


def _stream(items: Iterable[object], terms: Terms) -> Iterator[Batch]:
    iterator, number = iter(items), 0
    while True:
        where = f"inputs, batch {number}"
        try:
            item = next(iterator)
        except StopIteration:
            return
        except USER_CODE_ERRORS as error:
            raise BadInput(
                f"{where}: the iterable failed ({type(error).__name__}: {one_line(error)}): repair it"
            ) from error
        yield from _item(item, where, terms)
        number += 1


def _item(item: object, where: str, terms: Terms) -> Iterable[Batch]:
    if isinstance(item, str):
        return sequences(item, terms.tokenizer, terms.context, where)
    return (batch_of(item, where, floating=terms.floating),)


def _drawn_from(sampler: Sampler, terms: Terms) -> Found:
    """Draw `limit` samples, after checking that the sampler draws the same ones again from the same rng."""
    count = min(DRAW, terms.limit)
    again = [_keys(_drawn_once(sampler, np.random.default_rng(terms.seed), count, terms)) for _ in range(2)]
    if again[0] != again[1]:
        raise BadInput(
            "sampler: draws other samples from the same rng: take all randomness from it "
            "(for torch: torch.Generator().manual_seed(int(rng.integers(2**63))))"
        )
    found = first(_draws(sampler, terms), terms)
    rows = sum(map(len, found.batches))
    if rows > 1 and len(set(_keys(found.batches))) == 1:
        raise BadInput(f"sampler: the same sample {rows:,} times: draw from rng, or give the one sample as an array")
    return Found(found.batches, (f"seed {terms.seed}", *(found.notes if rows < terms.limit else ())))


def _draws(sampler: Sampler, terms: Terms) -> Iterator[Batch]:
    rng, left = np.random.default_rng(terms.seed), terms.limit
    while left > 0:
        part = _drawn_once(sampler, rng, min(DRAW, left), terms)
        left -= sum(map(len, part))
        yield from part


def _drawn_once(sampler: Sampler, rng: np.random.Generator, count: int, terms: Terms) -> list[Batch]:
    try:
        value = sampler(rng, count)
    except USER_CODE_ERRORS as error:
        cause = f"{type(error).__name__}: {one_line(error)}"
        raise BadInput(f"sampler: failed when asked for {count} samples ({cause}): repair it") from error
    if value is None:
        raise BadInput("sampler: returned nothing: return its samples")
    items = value if isinstance(value, list) else [value]
    batches = list(chain.from_iterable(_item(item, "sampler", terms) for item in items))
    rows = sum(map(len, batches))
    if not any(isinstance(item, str) for item in items) and rows != count:
        raise BadInput(f"sampler: asked for {count} samples, it returned {rows}: return as many rows as asked for")
    if not batches:
        raise BadInput(f"sampler: no text of {SHORTEST} tokens or more: draw longer texts")
    return batches


def _keys(batches: Iterable[Batch]) -> list[bytes]:
    return [key for batch in batches for key in keys(batch)]


def _rows_at(groups: Sequence[Batch], picks: Tensor) -> Iterator[Batch]:
    """Yield the samples whose numbers, counted through all groups, are in `picks`."""
    start = 0
    for batch in groups:
        here = picks[(picks >= start) & (picks < start + len(batch))] - start
        if len(here):
            yield batch.rows(here)
        start += len(batch)


def _check_arguments(inputs: Inputs, names: Sequence[str] | None) -> None:
    if names is None:
        return
    takes = f"the network takes {', '.join(names) or 'no arguments'}"
    positions = [name for name in inputs.arguments if isinstance(name, int)]
    if len(positions) > len(names):
        raise BadInput(
            f"{inputs.description}: {len(positions)} arguments by position, but {takes}: leave out the others"
        )
    for name in inputs.arguments:
        if isinstance(name, str) and name not in names:
            raise BadInput(f"{inputs.description}: no argument is called {name!r}, {takes}: rename or remove it")


def _check_present(inputs: Inputs, names: Iterable[Argument], option: str) -> None:
    absent = [name for name in names if name not in inputs.arguments]
    if absent:
        given = ", ".join(map(argument_label, inputs.arguments))
        raise BadInput(
            f"{inputs.description}: `{option}` names {argument_label(absent[0])}, but the inputs have {given}"
        )


def _check_ids(inputs: Inputs, vocabulary: int | Mapping[Argument, int]) -> None:
    ids = "input_ids" if "input_ids" in inputs.arguments else inputs.arguments[0]
    sizes = {ids: vocabulary} if isinstance(vocabulary, int) else dict(vocabulary)
    _check_present(inputs, sizes, "vocabulary")
    tables = (
        inputs.samples.tables() if isinstance(inputs.samples, Domain) else (batch.arrays for batch in inputs.samples)
    )
    for arrays in tables:
        for name in sizes.keys() & arrays.keys():
            where = f"{inputs.description}, {argument_label(name)}"
            array, size = arrays[name], sizes[name]
            if array.dtype != torch.int64:
                raise BadInput(f"{where}: {str(array.dtype).removeprefix('torch.')} cannot be ids: give integers")
            wrong = (array < 0) | (array >= size)
            if bool(wrong.any()):
                value = int(array[wrong][0])
                raise BadInput(
                    f"{where}: id {value} is outside the vocabulary of {size} ids (0 to {size - 1}): use its ids"
                )
