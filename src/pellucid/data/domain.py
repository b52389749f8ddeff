"""A declared finite domain: every sample there is, enumerated, so that a verdict over it is proved and not sampled.

A domain is a list of blocks. A block is all combinations of choices: sample i is i written in mixed radix, and digit j
picks row digit_j of choice j. Nothing is enumerated before it is asked for, and then in batches of bounded size.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from pellucid.data.arrays import tensor_of
from pellucid.data.batches import Argument, Batch, batch_of, joined, keys
from pellucid.errors import BadInput

ALPHABET_LIMIT = 2**20


@dataclass(frozen=True, eq=False)
class Block:
    """All combinations of one row from each choice. If `stacked`, the picked rows become axis 1 of the one argument."""

    choices: tuple[Batch, ...]
    stacked: bool

    @property
    def size(self) -> int:
        """Number of samples."""
        return math.prod(len(choice) for choice in self.choices)

    def at(self, digits: Sequence[Int64[Tensor, " rows"]]) -> Batch:
        """Return the samples that pick row `digits[j][i]` of choice j."""
        picked = [choice.rows(digit) for choice, digit in zip(self.choices, digits, strict=True)]
        if self.stacked:
            return Batch({0: torch.stack([part.arrays[0] for part in picked], dim=1)})
        return Batch({name: array for part in picked for name, array in part.arrays.items()})

    def enumerated(self, start: int, stop: int) -> Batch:
        """Return samples `start` to `stop`; the last choice varies fastest."""
        index = torch.arange(start, stop)
        digits = []
        for choice in reversed(self.choices):
            digits.append(index % len(choice))
            index = index // len(choice)
        return self.at(digits[::-1])


@dataclass(frozen=True, eq=False)
class Domain:
    """A finite set of samples. Build it with `product`, `grid`, `sequences` or `of`; duplicates are dropped.

    A domain too large to enumerate can still be drawn from: `domain.sample` is a sampler.

    >>> pairs_of_bits = Domain.sequences([0.0, 1.0], length=range(1, 4), width=2)
    >>> pairs_of_bits.size
    84
    >>> tuple(pairs_of_bits.sample(np.random.default_rng(0), 1)[0].arrays[0].shape[2:])
    (2,)
    """

    blocks: tuple[Block, ...]

    @property
    def size(self) -> int:
        """Number of samples (never enumerated to find it)."""
        return sum(block.size for block in self.blocks)

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """The arguments that a sample has."""
        return tuple(dict.fromkeys(name for choice in self.blocks[0].choices for name in choice.arrays))

    @classmethod
    def product(cls, *columns: object, **arguments: object) -> Domain:
        """Return all combinations of the given values.

        Positional `columns` (ranges, lists, arrays [k] or [k, ...]) become the columns of the first argument:
        `product(range(59), range(59))` is one int64 array [3481, 2]. Keywords become arguments by name:
        `product(a=range(4), b=range(8))` is two arrays [32]. Raises BadInput if both or none are given.
        """
        if bool(columns) == bool(arguments):
            raise BadInput("Domain.product: give values either by position (columns) or by keyword (arguments)")
        if arguments:
            return cls(
                (Block(tuple(_choice(v, f"Domain.product, {k}", k) for k, v in arguments.items()), stacked=False),)
            )
        tables = [tensor_of(values, f"Domain.product, column {i}") for i, values in enumerate(columns)]
        return cls((Block(_alike(tables, "Domain.product"), stacked=True),))

    @classmethod
    def grid(cls, *axes: tuple[float, float, int]) -> Domain:
        """Return the grid with `count` equally spaced values from `low` to `high` (both included) on each axis.

        The one argument is float32 [samples, axes]. A proof on a grid says nothing about points between its points.
        """
        for low, high, count in axes:
            if count < 1 or not (math.isfinite(low) and math.isfinite(high) and low <= high):
                raise BadInput(
                    f"Domain.grid: axis ({low}, {high}, {count}) is not (low, high, count ≥ 1) with low ≤ high"
                )
        return cls.product(*(np.linspace(low, high, count) for low, high, count in axes))

    @classmethod
    def sequences(
        cls, alphabet: object, *, length: int | Iterable[int], width: int | None = None, prefix: object = None
    ) -> Domain:
        """Return all sequences over a finite alphabet, of one length or of several (`length=range(1, 9)`).

        `alphabet` is [k] (each step a number: samples [length]) or [k, w] (each step a vector: samples [length, w]).
        With `width=w`, each step is any vector of w values from the alphabet [k]: k**w steps. `prefix` is prepended to
        every sequence (say, a begin token) and not counted in `length`; with vectors it is [steps, w].
        """
        table = _vectors(tensor_of(alphabet, "Domain.sequences, alphabet"), width)
        lengths = sorted({length} if isinstance(length, int) else set(length))
        if not lengths or lengths[0] < 1:
            raise BadInput(
                f"Domain.sequences: lengths {lengths} are not all at least 1: give length=8 or length=range(1, 9)"
            )
        before: list[Tensor] = []
        if prefix is not None:
            fixed = tensor_of(prefix, "Domain.sequences, prefix")
            before = [fixed[i : i + 1] for i in range(len(fixed))]
        steps = _alike([*before, table], "Domain.sequences")
        return cls(tuple(Block((*steps[:-1], *(steps[-1],) * n), stacked=True) for n in lengths))

    @classmethod
    def of(cls, samples: object) -> Domain:
        """Return the domain of exactly these samples: one batch (tensor, array, mapping, tuple) or a list of them.

        Batches of a list may differ in the lengths of their axes.
        """
        values = samples if isinstance(samples, list) else [samples]
        batches = joined((batch_of(v, f"Domain.of, batch {i}") for i, v in enumerate(values)), "Domain.of")
        if not batches:
            raise BadInput("Domain.of: no samples: give at least one")
        return cls(tuple(Block((_distinct(batch),), stacked=False) for batch in batches))

    def floating(self, which: bool | Collection[Argument] = True) -> Domain:
        """Return the same domain with integers and booleans as float32: of all arguments, or of those named."""
        return Domain(tuple(Block(tuple(c.floating(which) for c in b.choices), b.stacked) for b in self.blocks))

    def batches(self, rows: int = 256) -> Iterator[Batch]:
        """Yield every sample once, in batches of at most `rows` samples of one shape."""
        for block in self.blocks:
            for start in range(0, block.size, rows):
                yield block.enumerated(start, min(start + rows, block.size))

    def sample(self, rng: np.random.Generator, n: int) -> list[Batch]:
        """Draw `n` samples uniformly, with replacement, as one batch per shape. Works at any size."""
        logs = np.array([sum(math.log(len(choice)) for choice in block.choices) for block in self.blocks])
        weights = np.exp(logs - logs.max())
        counts = rng.multinomial(n, weights / weights.sum())
        return [
            block.at([torch.from_numpy(rng.integers(len(choice), size=count)) for choice in block.choices])
            for block, count in zip(self.blocks, counts.tolist(), strict=True)
            if count
        ]

    def tables(self) -> Iterator[Mapping[Argument, Shaped[Tensor, "k ..."]]]:
        """Yield the values that the samples are made of, each choice once per block and position."""
        for block in self.blocks:
            yield from (choice.arrays for choice in dict.fromkeys(block.choices))

    @property
    def fingerprint(self) -> str:
        """A hash of all declared values: equal domains declared alike have equal fingerprints."""
        digest = hashlib.blake2b(digest_size=16)
        for block in self.blocks:
            digest.update(f"block {block.stacked} {len(block.choices)};".encode())
            for choice in block.choices:
                digest.update(f"choice {len(choice)};".encode() + b"".join(keys(choice)))
        return digest.hexdigest()


def _choice(values: object, where: str, argument: Argument) -> Batch:
    return _distinct(Batch({argument: tensor_of(values, where)}))


def _distinct(batch: Batch) -> Batch:
    first = {key: row for row, key in reversed(list(enumerate(keys(batch))))}
    return batch if len(first) == len(batch) else batch.rows(torch.tensor(sorted(first.values())))


def _alike(tables: Sequence[Tensor], where: str) -> tuple[Batch, ...]:
    """Bring values that are stacked to one dtype (float32 if any is); their shapes must be the same."""
    shapes = {tuple(table.shape[1:]) for table in tables}
    if len(shapes) > 1:
        raise BadInput(
            f"{where}: values of shapes {sorted(shapes)} cannot be put in one array: give all the same shape"
        )
    kinds = [table.dtype for table in tables]
    kind = next((k for k in (torch.float32, torch.int64) if k in kinds), torch.bool)
    return tuple(_distinct(Batch({0: table.to(kind)})) for table in tables)


def _vectors(alphabet: Shaped[Tensor, "k ..."], width: int | None) -> Shaped[Tensor, "K ..."]:
    """Return all vectors of `width` values of an alphabet, in lexicographic order."""
    if width is None:
        return alphabet
    if alphabet.ndim != 1 or width < 1:
        raise BadInput(
            f"Domain.sequences: width={width} needs width ≥ 1 and an alphabet of numbers: or give vectors [k, w]"
        )
    if len(alphabet) ** width > ALPHABET_LIMIT:
        raise BadInput(f"Domain.sequences: {len(alphabet)}**{width} vectors a step are more than {ALPHABET_LIMIT:,}")
    block = Block((Batch({0: alphabet}),) * width, stacked=True)
    return block.enumerated(0, block.size).arrays[0]
