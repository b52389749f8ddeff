"""What attention can know about a sequence, as named quantities: rules of selection, counts, and places.

Each quantity is written in the intermediate representation and measured by running it, so that what a program is made
of is what was measured. Rules select earlier tokens (equal to the current one, the same pair, larger, …) and give the
first of them, its neighbour, the smallest; counts are of one token, all along or at every k-th place; places are
counted from the start or from a special token. `only_needed` leaves of a list of nodes what some values need.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations, product

import numpy as np
import torch
from jaxtyping import Bool, Int

from pellucid.code.recurrent.writing import Writer
from pellucid.code.tokens.predicted import at_once
from pellucid.errors import CannotRun
from pellucid.ir.graph import Block, Node, Ref, refs
from pellucid.ir.interpret import Scope, run_block

Tokens = Int[np.ndarray, "batch time"]

FEW_TOKENS = 12
"""Alphabets up to this size are small enough to count and compare each token."""

VOTING_TOKENS = 4
"""Of up to so many plain tokens each is weighed against each other."""

TOKENS, POSITIONS = "tokens", "positions"

PERIODS = (2, 3, 4)


@dataclass(frozen=True)
class Alphabet:
    """What the tokens of some sequences are.

    Attributes:
        tokens: those that occur, sorted.
        special: those that occur at most once in a sequence, and in nearly all.
        inside: special ones that do not just begin a sequence.
        plain: those that are not special, if they are few.
    """

    tokens: tuple[int, ...]
    special: tuple[int, ...]
    inside: tuple[int, ...]
    plain: tuple[int, ...]


@dataclass
class Quantities:
    """Values written so far: those to decide by (`numbers`), those that can be a token (`tokens`), and those that are
    only weighed against others (`weighed`)."""

    writer: Writer
    numbers: dict[str, Ref] = field(default_factory=dict)
    tokens: dict[str, Ref] = field(default_factory=dict)
    weighed: dict[str, Ref] = field(default_factory=dict)

    def number(self, value: Ref) -> Ref:
        """Keep a value to decide by, under its own name."""
        self.numbers[value.name] = value
        return value

    def token(self, value: Ref) -> Ref:
        """Keep a value that may be copied as a token."""
        self.tokens[value.name] = value
        return value


def alphabet_of(tokens: Tokens, live: Bool[np.ndarray, "batch time"]) -> Alphabet:
    """The tokens at the places of sequences that are `live`, special ones apart."""
    values = np.unique(tokens[live]).tolist()
    often = np.stack([((tokens == v) & live).sum(1) for v in values], axis=1)
    usual = ((often <= 1).mean(0) >= 0.99) & ((often > 0).mean(0) >= 0.95)
    special = tuple(v for v, so in zip(values, usual, strict=True) if so)
    inside = tuple(v for v in special if ((tokens == v) & live)[:, 1:].any())
    plain = tuple(v for v in values if v not in special)
    return Alphabet(tuple(values), special, inside, plain if len(plain) <= FEW_TOKENS else ())


def quantities(alphabet: Alphabet, positions: bool) -> Quantities:
    """All quantities over the values "tokens" and, if there are any, "positions" [batch, time]."""
    found = Quantities(Writer("int64", "", taken={TOKENS, POSITIONS}))
    _places(found, alphabet, positions)
    _counts(found, alphabet)
    _weights(found, alphabet)
    _rules(found, alphabet)
    return found


def _places(found: Quantities, alphabet: Alphabet, positions: bool) -> None:
    """Steps from the start and since special tokens, with their remainders, and the position ids."""
    write, tokens = found.writer.node, Ref(TOKENS)
    length = write("size", tokens, 1, name="length")
    step = write("arange", 0, length, name="step")
    found.number(step)
    distance = write("sub", write("unsqueeze", step, 1), write("unsqueeze", step, 0), name="distance")
    write("ge", distance, 0, name="so_far")
    for token in alphabet.inside:
        here = write("eq", tokens, token)
        seen = found.number(write("cumsum", write("cast", here, "int64"), 1, name=f"seen{token}"))
        found.number(write("sub", write("cumsum", seen, 1), seen, name=f"steps_since{token}"))
    for period in PERIODS:
        found.number(write("mod", step, period, name=f"step_mod{period}"))
    if positions:
        start = found.number(write("slice_axis", Ref(POSITIONS), 1, 0, 1, name="start"))
        found.number(write("add", start, step, name="position"))
        for period in PERIODS:
            found.number(write("mod", start, period, name=f"start_mod{period}"))


def _counts(found: Quantities, alphabet: Alphabet) -> None:
    """How often each plain token came so far, at all places or at every k-th; differences; lengths of runs."""
    write, tokens = found.writer.node, Ref(TOKENS)
    distance, so_far = Ref("distance"), Ref("so_far")
    alike = {
        period: write(
            "cast",
            write("and", so_far, write("eq", write("mod", distance, period), 0)),
            "int64",
            name=f"every{period}",
        )
        for period in PERIODS
    }
    counted: dict[tuple[int, int], Ref] = {}
    for token in alphabet.plain:
        here = write("cast", write("eq", tokens, token), "int64", name=f"is{token}")
        counted[token, 1] = found.number(write("cumsum", here, 1, name=f"count{token}"))
        for period in PERIODS:
            found.number(write("mod", counted[token, 1], period, name=f"count{token}_mod{period}"))
            every = write("einsum", "qk,bk->bq", (alike[period], here), name=f"count{token}_every{period}")
            counted[token, period] = found.number(every)
    for (a, b), period in ((pair, k) for pair in combinations(alphabet.plain, 2) for k in (1, *PERIODS)):
        suffix = f"_every{period}" if period > 1 else ""
        found.number(write("sub", counted[b, period], counted[a, period], name=f"more{b}_than{a}{suffix}"))


def _weights(found: Quantities, alphabet: Alphabet) -> None:
    """How much more often one plain token came than another, by the remainder of the distance, and with each place
    counted as often as it is steps away; and the remainders of position ids."""
    if not 2 <= len(alphabet.plain) <= VOTING_TOKENS:
        return
    write, distance = found.writer.node, Ref("distance")
    for period in PERIODS if "position" in found.numbers else ():
        name = f"position_mod{period}"
        found.weighed[name] = write("mod", Ref("position"), period, name=name)
    for a, b in combinations(alphabet.plain, 2):
        found.weighed[here(a, b)] = write("sub", Ref(f"is{b}"), Ref(f"is{a}"), name=here(a, b))
    for period, remainder in ((k, r) for k in (1, *PERIODS) for r in range(k)):
        there = Ref("so_far")
        if period > 1:
            there = write("and", there, write("eq", write("mod", distance, period), remainder))
        near = write("cast", there, "int64", name="near")
        masks = ((False, near), (True, write("mul", near, distance, name="far")))
        for (a, b), (by_distance, mask) in product(combinations(alphabet.plain, 2), masks):
            name = balance(a, b, period, remainder, by_distance)
            if name not in found.numbers:
                found.weighed[name] = write("einsum", "qk,bk->bq", (mask, found.weighed[here(a, b)]), name=name)


def here(a: int, b: int) -> str:
    """The name of 1 at token b, -1 at a."""
    return f"more{b}_than{a}_here"


def balance(a: int, b: int, period: int, remainder: int, by_distance: bool) -> str:
    """The name of how much more often token b came than a at distances of one remainder, perhaps times the distance."""
    every = f"_every{period}" if period > 1 else ""
    return f"more{b}_than{a}{every}{f'_from{remainder}' if remainder else ''}{'_by_distance' if by_distance else ''}"


def _rules(found: Quantities, alphabet: Alphabet) -> None:
    """Tokens that a rule of selection finds."""
    write, tokens = found.writer.node, Ref(TOKENS)
    found.token(tokens)
    step = Ref("step")
    query, key = write("unsqueeze", tokens, 2), write("unsqueeze", tokens, 1)
    earlier = write("gt", Ref("distance"), 0, name="earlier")
    so_far = Ref("so_far")
    previous = _moved(found, 1, "previous")
    equal = write("eq", query, key, name="equal")
    pair = write("eq", write("unsqueeze", previous, 2), write("unsqueeze", previous, 1))
    for name, mask in (
        ("same", write("and", equal, earlier)),
        ("same_pair", write("and", write("and", equal, pair), earlier)),
    ):
        first = write("argmax", write("cast", mask, "int64"), -1, name=f"first_{name}")
        found.token(write("gather", tokens, 1, write("add", first, 1), name=f"after_{first.name}"))
        found.number(write("cast", write("any_true", mask, -1), "int64", name=f"{name}_before"))
        last = write("largest", write("where", mask, write("unsqueeze", step, 0), 0), (-1,), name=f"last_{name}")
        found.token(write("gather", tokens, 1, write("add", last, 1), name=f"after_{last.name}"))
    first = write("argmax", write("cast", write("and", equal, so_far), "int64"), -1, name="first_occurrence")
    back = write("maximum", write("sub", first, 1), 0)
    found.token(write("gather", tokens, 1, back, name="before_first_occurrence"))
    most, least = max(alphabet.tokens) + 1, min(alphabet.tokens) - 1
    larger = write("where", write("and", write("gt", key, query), so_far), key, most)
    found.token(write("smallest", larger, (-1,), name="next_larger"))
    smaller = write("where", write("and", write("lt", key, query), so_far), key, least)
    found.token(write("largest", smaller, (-1,), name="next_smaller"))
    found.token(write("smallest", write("where", so_far, key, most), (-1,), name="smallest_so_far"))
    one_hot = write("cast", write("eq", write("unsqueeze", tokens, -1), write("arange", 0, most)), "int64")
    found.token(write("argmax", write("cumsum", one_hot, 1), -1, name="commonest_so_far"))
    found.token(write("add", tokens, 1, name="successor"))
    found.token(write("sub", tokens, 1, name="predecessor"))
    found.token(_moved(found, 2, "second_last"))
    for place in (1, 2):
        found.token(write("slice_axis", tokens, 1, place, place + 1, name=f"token_at{place}"))
    for token in alphabet.inside:
        ahead = write("minimum", write("add", Ref(f"steps_since{token}"), 1), step)
        found.token(write("gather", tokens, 1, ahead, name=f"from_start_since{token}"))


def _moved(found: Quantities, steps: int, name: str) -> Ref:
    """The token so many steps before, -1 where there is none."""
    write = found.writer.node
    cut = write("slice_axis", write("pad", Ref(TOKENS), (steps, 0), -1), 1, 0, -steps, name=name)
    return found.token(cut)


def measured(nodes: Sequence[Node], names: Sequence[str], given: dict[str, torch.Tensor]) -> dict[str, Tokens]:
    """What the values of these names are for some inputs, each [batch, time]."""
    block = Block(tuple(given), tuple(only_needed(nodes, names)), tuple(names))
    portions = []
    for rows in at_once(len(given[TOKENS]), given[TOKENS].shape[1]):
        values = [value[rows] for value in given.values()]
        found = run_block(block, values, Scope({}, no_calls))
        shape = values[0].shape
        portions.append([np.broadcast_to(value.numpy().astype(np.int32), shape) for value in found])
    return {name: np.concatenate(parts) for name, parts in zip(names, zip(*portions, strict=True), strict=True)}


def no_calls(name: str, _: Sequence[object]) -> Sequence[object]:
    """A block of rules calls no functions."""
    raise CannotRun(f"a rule calls {name!r}")


def only_needed(nodes: Sequence[Node], names: Sequence[str]) -> list[Node]:
    """The nodes that the values of these names need, in order."""
    needed, kept = set(names), []
    for node in reversed(nodes):
        if needed & set(node.outputs):
            kept.append(node)
            needed |= set(refs(node))
    return kept[::-1]
