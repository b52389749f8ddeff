"""One dense layer in its shortest form: a convolution, blocks, two narrow products, whole numbers, or a formula.

Every form is written out as nodes and weights and measured in bits; the shortest stays, if it is shorter than the layer
as it was. Most matrices of real networks are none of these, and are turned away first by what is cheap to see:

- a convolution leaves zeros where its kernel does not reach, but no output without an input; blocks leave as many zeros
  as the shorter side is long, or more;
- by Cauchy's interlacing a matrix has at least the rank of any part of it. If a part of a few more rows or columns than
  the largest rank that saves anything has a Gram matrix that, less a little, has a Cholesky factor, no rank is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
import torch
from jaxtyping import Float, Int

from pellucid.code.expressions.expression import Name, linear
from pellucid.code.linear.blocks import BlockDiagonal, find_blocks
from pellucid.code.linear.convolution import Convolution, find_convolution
from pellucid.code.linear.dense import FRACTIONS, Dense
from pellucid.code.linear.rank import find_low_rank
from pellucid.code.linear.rewriting import Draft, Rewrite
from pellucid.code.recurrent.writing import Writer
from pellucid.ir.bits import OPERATION_BITS, block_bits
from pellucid.ir.graph import Arg, Block, Ref, Weight

MOST_ENTRIES = 4_000_000
"""Larger matrices are not looked through."""

LITERAL_ENTRIES, LITERAL_OUTPUTS = 64, 16
"""Whole matrices up to so many entries and outputs are written as formulas of their inputs."""

WORTH = 1 / 20
"""A form has to save such a share of a layer's bits."""

TOLERANCE = 1e-6
"""How far an entry may be off, as a share of the largest."""

FACTORS_TOLERANCE = 1e-5
"""How far an entry of the product of two narrow matrices may be off, as a share of the largest."""

SPARE = 8
"""How many more rows or columns than the largest rank that saves anything are looked at."""

EMPTY, IDLE = 1 / 16, 1 / 4
"""A matrix with a smaller share of zeros, or a larger one of zero rows, is not asked whether it is a convolution."""

MOST_BLOCKS = 16
"""More blocks than this are only written where they all have one shape."""


@dataclass(frozen=True, eq=False)
class Numbers:
    """(weight @ x + bias) / denominators: what a layer computes, in floats that are whole where it is in fractions."""

    weight: Float[np.ndarray, "out in"]
    bias: Float[np.ndarray, "out"] | None
    denominators: Int[np.ndarray, "out"] | None

    @property
    def slack(self) -> float:
        """How far an entry of the matrix may be off."""
        return 0.0 if self.denominators is not None else TOLERANCE * float(np.abs(self.weight).max(initial=0.0))


@dataclass
class Page:
    """Nodes and weights in place of one dense layer, as they are written."""

    draft: Draft
    dense: Dense
    writer: Writer = field(init=False)
    weights: dict[str, torch.Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.writer = Writer(taken=self.draft.taken())

    def node(self, op: str, *args: Arg, name: str = "") -> Ref:
        """Append a node."""
        return self.writer.node(op, *args, name=name)

    def store(self, array: np.ndarray, suffix: str, base: str = "") -> Ref | Weight:
        """An array as a weight of the layer's type, kept as small integers where it is whole and that saves bits."""
        name = f"{(base or self.dense.weight_name).removesuffix(FRACTIONS)}{suffix}"
        tensor = torch.from_numpy(np.ascontiguousarray(array)).to(self.dense.dtype)
        small = _small_integers(tensor)
        if small is None:
            return self._weight(name, tensor)
        return self.node("cast", self._weight(name, small), str(self.dense.dtype)[6:])

    def positions(self, array: Int[np.ndarray, "n"], suffix: str) -> Ref:
        """Positions along an axis."""
        narrow = torch.uint8 if array.max(initial=0) < 256 else torch.int16 if array.max() < 2**15 else torch.int32
        stored = self._weight(f"{self.dense.weight_name}{suffix}", torch.from_numpy(array).to(narrow))
        return self.node("cast", stored, "int64")

    def _weight(self, name: str, tensor: torch.Tensor) -> Weight:
        name = self.draft.weight_name(name, tensor)
        self.weights[name] = tensor
        return Weight(name)

    def bias(self, numbers: Numbers) -> Arg:
        """The bias of the layer as an argument."""
        if numbers.bias is None or not numbers.bias.any():
            return None
        base = self.dense.bias_name or self.dense.weight_name
        whole = _small_integers(torch.from_numpy(numbers.bias).to(self.dense.dtype)) is not None
        if numbers.denominators is None and not whole and self.dense.bias_name is not None:
            return Weight(self.dense.bias_name)
        return self.store(numbers.bias, ".whole", base)

    def divided(self, numbers: Numbers, value: Ref) -> None:
        """The value over the denominators, as the last thing on the page."""
        below = numbers.denominators
        if below is None or (below == 1).all():
            return
        same = (below == below[0]).all()
        self.node("div", value, int(below[0]) if same else self.store(below.astype(np.float64), ".denominators"))

    def rewrite(self, summary: str, method: str) -> Rewrite:
        """What is on the page, its last value called as the layer's."""
        *nodes, last = self.writer.nodes
        return Rewrite((*nodes, last.with_changes(outputs=(self.dense.target,))), self.weights, summary, method)


def _small_integers(tensor: torch.Tensor) -> torch.Tensor | None:
    """The tensor as int8 or int16, None where it is not whole, too large, or too small to gain by it."""
    if not bool((tensor.flatten()[:64] == tensor.flatten()[:64].round()).all()) or tensor.numel() == 0:
        return None
    if not bool((tensor == tensor.round()).all()) or float(tensor.abs().max()) >= 2**15:
        return None
    small = tensor.to(torch.int8 if float(tensor.abs().max()) < 2**7 else torch.int16)
    saved = 8.0 * tensor.numel() * (tensor.element_size() - small.element_size())
    return small if saved > 2 * OPERATION_BITS + 8 * len(str(tensor.dtype)[6:]) else None


Form = Callable[[Page, Numbers], Rewrite | None]


def numbers_of(draft: Draft, dense: Dense) -> Numbers:
    """What the layer computes."""
    known = draft.fractions.get(dense.weight_name)
    if known is None:
        return Numbers(dense.weight, dense.bias, None)
    return Numbers(known.numerators.astype(np.float64), known.bias_numerators.astype(np.float64), known.denominators)


def shortest_form(draft: Draft, dense: Dense, forms: Sequence[Form]) -> Rewrite | None:
    """The shortest form of a dense layer, None where that is the layer as it stands. Raises `BadInput` on NaN."""
    numbers = numbers_of(draft, dense)
    best, least = None, (1 - WORTH) * _bits(draft, dense, Rewrite((dense.node,), {}, "", ""))
    for form in forms:
        if form in (_formula, _stored_whole) and best is not None:
            continue  # zeros, or a formula, read better than the same numbers in a table, even where they are longer
        rewrite = form(Page(draft, dense), numbers)
        bits = least if rewrite is None else _bits(draft, dense, rewrite)
        if bits < least:
            best, least = rewrite, bits
    return best


def _bits(draft: Draft, dense: Dense, rewrite: Rewrite) -> float:
    block = Block((dense.source,), rewrite.nodes, (dense.target,))
    return block_bits(block, {**draft.weights, **rewrite.weights})


# ---- forms


def _formula(page: Page, numbers: Numbers) -> Rewrite | None:
    """Each output as a sum of named inputs times whole numbers."""
    numbers = numbers if numbers.denominators is not None else _whole(numbers)
    if numbers.denominators is None or numbers.weight.size > LITERAL_ENTRIES or len(numbers.weight) > LITERAL_OUTPUTS:
        return None
    bias = np.zeros(len(numbers.weight)) if numbers.bias is None else numbers.bias
    for column in np.flatnonzero(numbers.weight.any(axis=0)).tolist() or [0]:
        name = f"{page.dense.source}_{column}"
        page.writer.known[str(column)] = page.node("select", Ref(page.dense.source), -1, column, name=name)
    outputs = []
    rows = zip(numbers.weight, bias, numbers.denominators.tolist(), strict=True)
    for i, (row, constant, below) in enumerate(rows):
        terms = [(Fraction(int(row[j])), Name(str(j))) for j in np.flatnonzero(row).tolist()]
        name = f"{page.dense.target}_{i}"
        value = page.writer.array(linear(terms, Fraction(int(constant))), name if below == 1 else "")
        outputs.append(page.node("div", value, below, name=name) if below != 1 else value)
    single = len(outputs) == 1
    page.node("unsqueeze", outputs[0], -1) if single else page.node("stack", tuple(outputs), -1)
    return page.rewrite(f"{len(outputs)} formula{'s' * (not single)} in whole numbers", "formula")


def _whole(numbers: Numbers) -> Numbers:
    """A layer that happens to be in whole numbers, as fractions."""
    parts = [numbers.weight] if numbers.bias is None else [numbers.weight, numbers.bias]
    whole = all(np.array_equal(part, np.rint(part)) and np.abs(part).max(initial=0) < 2**15 for part in parts)
    return Numbers(numbers.weight, numbers.bias, np.ones(len(numbers.weight), np.int64)) if whole else numbers


def _nothing(page: Page, numbers: Numbers) -> Rewrite | None:
    """A matrix of zeros: the bias, or nothing, whatever comes in."""
    known = page.draft.values.get(page.dense.source)
    if numbers.weight.any() or known is None:
        return None
    zero = page.node("mul", page.node("slice_axis", Ref(page.dense.source), -1, 0, 1), 0)
    bias = page.bias(numbers)
    if bias is None:
        page.node("expand", zero, (*(-1 for _ in known.axes[:-1]), len(numbers.weight)))
    else:
        page.divided(numbers, page.node("add", zero, bias))
    return page.rewrite("zero" if bias is None else "its bias alone", "zero")


def _stored_whole(page: Page, numbers: Numbers) -> Rewrite | None:
    """The same matrix as small integers."""
    weight = page.store(numbers.weight, ".whole")
    if isinstance(weight, Weight):
        return None
    result = page.node("linear", Ref(page.dense.source), weight, page.bias(numbers))
    page.divided(numbers, result)
    fractions = numbers.denominators is not None and bool((numbers.denominators != 1).any())
    largest = int(np.abs(numbers.weight).max())
    form = "fractions" if fractions else "whole numbers"
    return page.rewrite(f"{form} of size {largest} at most", "fractions" if fractions else "whole numbers")


def _convolution(page: Page, numbers: Numbers) -> Rewrite | None:
    used = np.abs(numbers.weight) > numbers.slack
    axes = page.draft.values.get(page.dense.source)
    if axes is None or not 1 - used.any(axis=1).mean() <= IDLE or not 1 - used.mean() >= EMPTY:
        return None
    found = find_convolution(numbers.weight, numbers.bias, budget=numbers.slack)
    if found is None:
        return None
    image = page.node("reshape", Ref(page.dense.source), (-1, *found.in_shape), name="image")
    kernel = page.store(found.kernel, ".kernel")
    base = page.dense.bias_name or page.dense.weight_name
    bias = None if found.bias is None or not found.bias.any() else page.store(found.bias, ".channels", base)
    flat = len(found.stride) == 1
    options: list[tuple[int, ...] | int] = [found.stride, found.padding, found.dilation, found.groups]
    defaults = [(1,) * len(found.stride), (0,) * len(found.stride), (1,) * len(found.stride), 1]
    while options and options[-1] == defaults[len(options) - 1]:
        options.pop()
    told: list[Arg] = [option[0] if flat and isinstance(option, tuple) else option for option in options]
    result = page.node("conv1d" if flat else "conv2d", image, kernel, bias, *told, name="convolved")
    result = _unfolded(page, result, axes.axes[:-1], len(numbers.weight))
    if found.dense_bias is not None:
        result = page.node("add", result, page.bias(numbers))
    page.divided(numbers, result)
    return page.rewrite(_convolution_text(found), "convolution")


def _unfolded(page: Page, image: Ref, lead: tuple[int | str, ...], outputs: int) -> Ref:
    """The images as rows again, one for each place along the leading axes."""
    if len(lead) == 1:
        return page.node("flatten", image, 1)
    open_axes = [axis for axis, size in enumerate(lead) if isinstance(size, str)]
    sizes: list[Arg] = [size if isinstance(size, int) else -1 for size in lead]
    for axis in open_axes[1:]:
        sizes[axis] = page.node("size", Ref(page.dense.source), axis)
    return page.node("reshape", image, (*sizes, outputs))


def _convolution_text(found: Convolution) -> str:
    size = "×".join(str(n) for n in found.kernel.shape[2:])
    size = f"width {size}" if len(found.stride) == 1 else size
    parts = [f"{found.kernel.shape[0]} channel{'s' * (found.kernel.shape[0] != 1)}", size]
    for word, values, usual in (
        ("stride", found.stride, None),
        ("padding", found.padding, None),
        ("dilation", found.dilation, 1),
    ):
        if any(value != usual for value in values):
            parts.append(f"{word} {values[0] if len(set(values)) == 1 else '×'.join(map(str, values))}")
    if found.groups != 1:
        parts.append(f"{found.groups} groups")
    return f"a convolution: {', '.join(parts)}"


def _blocks(page: Page, numbers: Numbers) -> Rewrite | None:
    zeros = int(np.count_nonzero(np.abs(numbers.weight) <= numbers.slack))
    if zeros < min(numbers.weight.shape):
        return None
    found = find_blocks(numbers.weight, tolerance=numbers.slack)
    if found is None or not found.blocks:
        return None
    shapes = {block.weight.shape for block in found.blocks}
    alike = len(shapes) == 1 and len(found.blocks) > 2
    if not alike and len(found.blocks) > MOST_BLOCKS:
        return None
    result = _alike(page, found) if alike else _apart(page, found)
    order = np.concatenate([*(block.rows for block in found.blocks), found.zero_rows])
    if found.zero_rows.size:
        result = page.node("pad", result, (0, int(found.zero_rows.size)))
    if not np.array_equal(order, np.arange(order.size)):
        result = page.node("take", result, page.positions(np.argsort(order), ".order"), -1)
    bias = page.bias(numbers)
    result = result if bias is None else page.node("add", result, bias)
    page.divided(numbers, result)
    return page.rewrite(_blocks_text(found), "blocks")


def _taken(page: Page, columns: Int[np.ndarray, "n"], suffix: str) -> Ref:
    """These columns of the layer's input: a range where they are one."""
    source, count = Ref(page.dense.source), page.dense.weight.shape[1]
    if np.array_equal(columns, np.arange(count)):
        return source
    first, last = int(columns[0]), int(columns[-1])
    if np.array_equal(columns, np.arange(first, last + 1)):
        return page.node("slice_axis", source, -1, first, last + 1, name="part")
    return page.node("take", source, page.positions(columns, suffix), -1, name="part")


def _apart(page: Page, found: BlockDiagonal) -> Ref:
    """Each block on its own columns, one after the other."""
    parts = []
    for i, block in enumerate(found.blocks):
        part = _taken(page, block.columns, f".columns{i}")
        parts.append(page.node("linear", part, page.store(block.weight, f".block{i}"), name="block"))
    return parts[0] if len(parts) == 1 else page.node("concat", tuple(parts), -1)


def _alike(page: Page, found: BlockDiagonal) -> Ref:
    """Blocks of one shape, all at once."""
    columns = _taken(page, np.concatenate([block.columns for block in found.blocks]), ".columns")
    stacked = np.stack([block.weight for block in found.blocks])
    count, height, width = stacked.shape
    if height == width == 1:
        factors = stacked.reshape(count)
        ones = bool((factors == 1).all())
        return columns if ones else page.node("mul", columns, page.store(factors, ".diagonal"))
    apart = page.node("unflatten", columns, -1, (count, width))
    product = page.node("einsum", "...ni,noi->...no", (apart, page.store(stacked, ".blocks")))
    return page.node("flatten", product, -2, -1)


def _blocks_text(found: BlockDiagonal) -> str:
    shapes = sorted({block.weight.shape for block in found.blocks})
    size = "×".join(map(str, shapes[0])) if len(shapes) == 1 else "different sizes"
    count = len(found.blocks)
    parts = [f"{count} blocks of {size}"] if count > 1 else [f"a matrix of {size}"]
    for word, lines in (("zero row", found.zero_rows), ("zero column", found.zero_columns)):
        if lines.size:
            parts.append(f"{lines.size} {word}{'s' * (lines.size != 1)}")
    return ", ".join(parts)


def _low_rank(page: Page, numbers: Numbers) -> Rewrite | None:
    budget = FACTORS_TOLERANCE * float(np.abs(numbers.weight).max(initial=0.0))
    if numbers.denominators is not None or _is_full(numbers.weight, budget):
        return None
    found = find_low_rank(numbers.weight, budget=budget)
    if found is None or found.residual > budget:
        return None
    narrow = page.node("linear", Ref(page.dense.source), page.store(found.right, ".right"), name="narrow")
    page.node("linear", narrow, page.store(found.left, ".left"), page.bias(numbers))
    return page.rewrite(f"a product of two narrow matrices, rank {found.right.shape[0]}", "low rank")


def _is_full(weight: Float[np.ndarray, "out in"], budget: float) -> bool:
    """Are some of its rows, or columns, already of a higher rank than saves anything?"""
    wide = weight if len(weight) <= weight.shape[1] else weight.T
    count = wide.size // sum(wide.shape) + SPARE
    if count > len(wide):
        return False
    part = torch.from_numpy(wide[np.linspace(0, len(wide) - 1, count).astype(np.int64)]).double()
    gram = part @ part.T
    least = weight.size * budget**2 / SPARE + 1e-12 * float(gram.trace())
    return int(torch.linalg.cholesky_ex(gram - least * torch.eye(count, dtype=torch.float64)).info) == 0


EXACT: tuple[Form, ...] = (_nothing, _formula, _stored_whole, _convolution, _blocks)
"""Forms that only leave out or share numbers."""

FACTORS: tuple[Form, ...] = (_low_rank,)
"""Forms that replace numbers by others, whose products come near."""
