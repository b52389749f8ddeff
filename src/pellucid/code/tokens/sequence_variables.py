"""From the heads of a transformer to variables of a program: what each head selects, and what it moves.

A head is readable where its attention is hard: gaps between the scores of a query fall on a few levels (selected, the
mark of the beginning half way, not selected), except in rows where an earlier part of the network hesitates; those are
left out here, and the finished program is measured on them as on all others. What is selected becomes a rule over
known variables (`tokens.relations`). What is moved tells the kind of variable:

- only the mark of the beginning gives something: the share of attention that it gets says how many keys are selected;
- values on a line, numbers: their mean over the selected keys, or how many of them are 1;
- different directions, at most one key selected: the value there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64

from pellucid.code.expressions.expression import Expr, Name, evaluate, linear, number
from pellucid.code.tokens.corpus import Corpus
from pellucid.code.tokens.dependence import Column, determining, distinct, explain
from pellucid.code.tokens.heads import HeadRun
from pellucid.code.tokens.relations import Rule, find_rule

HARD = 4.0
"""Least gap between the scores of selected keys and others: e^-4 of the attention."""

NEAR, EQUAL = 0.12, 0.02
"""How far gaps may be from their level, and those of selected keys from 0, as shares of the largest gap."""

PURE = 0.9
"""Vectors of this share of the largest norm on are no mixtures."""

SAME = 0.03
"""Values this close, as a share of the largest, are one."""

RARE = 0.02
"""Share of queries for which a part of the network that hesitates may mislead a head."""

MULTIPLES, FARTHEST = 6, 0.1
"""Numbers are whole multiples of the smallest of them, or of a fraction of it down to this part; and how far off."""

PAIRS = 120_000
"""Pairs of positions that a rule is sought on."""

PARTS = 5040
"""Means are compared as whole numbers of such parts."""

_PREVIOUS = linear([(1, Name("indices"))], -1)


@dataclass(frozen=True)
class Selection:
    """Keys that a query selects: those of a rule, after the query left out if `causal`."""

    rule: Rule
    causal: bool


@dataclass(frozen=True, eq=False)
class Variable:
    """A number at each position.

    Attributes:
        name: in expressions.
        kind: "given", "width" (how many keys are selected), "picked" (the value at the selected key), "counted" (at how
            many selected keys the value is 1) or "mean" (of the value over selected keys, in parts of `PARTS`).
        column: its value at each position of the corpus.
        selection, value: of a head; the value is an expression over variables at the key.
        default: of "picked", where nothing is selected.
    """

    name: str
    kind: str
    column: Column
    selection: Selection | None = None
    value: Expr | None = None
    default: int = 0


Known = dict[str, Variable]


def given_variables(corpus: Corpus) -> Known:
    """The token and the number of each position."""
    return {
        "tokens": Variable("tokens", "given", corpus.tokens),
        "indices": Variable("indices", "given", corpus.index),
    }


def columns(known: Mapping[str, Variable]) -> dict[str, Column]:
    """The variables as columns."""
    return {name: variable.column for name, variable in known.items()}


def whole(known: Mapping[str, Variable]) -> Known:
    """The variables that are whole numbers by themselves: all but means."""
    return {name: variable for name, variable in known.items() if variable.kind != "mean"}


def expressed(target: Column, sure: Bool[np.ndarray, " places"], known: Known, deadline: float) -> Expr | None:
    """The shortest expression found for the sure places of a target, without means if it can be."""
    for variables in (whole(known), known):
        told = {name: column[sure] for name, column in columns(variables).items()}
        positive = frozenset(name for name, column in columns(variables).items() if (column > 0).all())
        expr = explain(target[sure], told, deadline, positive=positive)
        if expr is not None or len(variables) == len(known):
            return expr
    return None


@dataclass(frozen=True, eq=False)
class _Pattern:
    """What a head selects, group by group: of the keys after the beginning, and whether that is sure."""

    selected: tuple[Bool[np.ndarray, "_ _ _"], ...]
    visible: tuple[Bool[np.ndarray, "_ _"], ...]
    clean: tuple[Bool[np.ndarray, "_ _"], ...]

    @property
    def single(self) -> bool:
        """Whether hardly any query surely selects several keys."""
        widths = np.concatenate([s.sum(-1)[c] for s, c in zip(self.selected, self.clean, strict=True)])
        return bool((widths > 1).mean() <= RARE) if len(widths) else True


def read_head(
    runs: Sequence[HeadRun], corpus: Corpus, fitted: int, known: Known, deadline: float
) -> list[Variable] | str:
    """The variables that a head adds to the known ones, none if it moves nothing; or why it cannot be read.

    Args:
        runs: the head on each group of the corpus.
        fitted: of how many groups rules and expressions are read off.
        deadline: of `time.monotonic`.
    """
    tokens, start = _moved(runs, corpus)
    scale = max(float(np.abs(tokens).max()), float(np.abs(start).max()))
    apart = np.abs(tokens - tokens[0]).max()
    if scale == 0 or max(float(apart), float(np.abs(start - tokens[0]).max())) < SAME * min(scale, 1.0):
        return []
    pattern = _pattern(runs, corpus)
    if isinstance(pattern, str):
        return pattern
    selection = _selection(pattern, corpus.first(fitted), known, deadline)
    if selection is None:
        return "no rule for what it selects"
    if apart <= SAME * scale:
        return [_variable("width", "count", selection, None, corpus, known)]
    kinds = _kinds(tokens, start, scale)
    if isinstance(kinds, str):
        return kinds
    return _carried(kinds, selection, pattern, corpus, fitted, known, deadline)


def _moved(runs: Sequence[HeadRun], corpus: Corpus) -> tuple[Float[np.ndarray, "places f"], Float[np.ndarray, " f"]]:
    """What every position gives, and what the beginning gives (zeros where there is none)."""
    grids = [run.values.numpy() for run in runs]
    tokens = corpus.flat([grid[:, corpus.skipped :] for grid in grids])
    start = grids[0][0, 0] if corpus.skipped else np.zeros(tokens.shape[1])
    return tokens, start


# ---- what is selected


def _pattern(runs: Sequence[HeadRun], corpus: Corpus) -> _Pattern | str:
    gaps = [_gaps(run, corpus.skipped) for run in runs]
    largest = max(float(gap[np.isfinite(gap)].max(initial=0.0)) for gap in gaps)
    if largest and largest < HARD and largest > 1 / HARD:
        return f"its attention is soft: scores differ by at most {largest:.2g}"
    reach = largest if largest >= HARD else 1.0
    selected, visible, clean = [], [], []
    for gap in gaps:
        share = gap / reach
        levels = [share <= EQUAL, np.abs(share - 0.5) <= NEAR, np.abs(share - 1.0) <= NEAR]
        sure = (levels[0] | levels[1] | levels[2] | ~np.isfinite(gap)).all(-1)
        chosen = levels[0][..., corpus.skipped :]
        selected.append(chosen)
        visible.append(np.isfinite(gap[0])[:, corpus.skipped :])
        clean.append(sure)
    return _Pattern(tuple(selected), tuple(visible), tuple(clean))


def _gaps(run: HeadRun, skipped: int) -> Float[np.ndarray, "sequence query key"]:
    scores = run.scores[:, skipped:].numpy()
    gaps: Float[np.ndarray, "sequence query key"] = scores.max(-1, keepdims=True) - scores
    return gaps


def _selection(pattern: _Pattern, fit: Corpus, known: Known, deadline: float) -> Selection | None:
    """The rule over whole numbers, or over means too."""
    options = [whole(known), known] if len(whole(known)) < len(known) else [known]
    found = (_selection_over(pattern, fit, variables, deadline) for variables in options)
    return next((selection for selection in found if selection is not None), None)


def _selection_over(pattern: _Pattern, corpus: Corpus, known: Known, deadline: float) -> Selection | None:
    """The rule on surely selected and unselected pairs of visible positions."""
    each = max(1, PAIRS // sum(group.shape[1] ** 2 for group in corpus.groups))
    grids = {name: list(corpus.grids(variable.column)) for name, variable in known.items()}
    target: list[Bool[np.ndarray, " pairs"]] = []
    keys: dict[str, list[Column]] = {name: [] for name in known}
    queries: dict[str, list[Column]] = {name: [] for name in known}
    for g, group in enumerate(corpus.groups):
        rows = slice(None, None, max(1, len(group) // each))
        selected = pattern.selected[g][rows]
        told = pattern.clean[g][rows][:, :, None] & pattern.visible[g]
        target.append(selected[told])
        for name in known:
            grid = grids[name][g][rows]
            keys[name].append(np.broadcast_to(grid[:, None, :], selected.shape)[told])
            queries[name].append(np.broadcast_to(grid[:, :, None], selected.shape)[told])
    joined = [{name: np.concatenate(parts) for name, parts in side.items()} for side in (keys, queries)]
    wanted = np.concatenate(target)
    joined[0].pop("length", None)
    rule = find_rule(wanted, joined[0], joined[1], deadline) if len(wanted) else None
    if rule is None:
        return None
    causal = not all(visible.all() for visible in pattern.visible)
    if causal and rule.op == "all":
        return Selection(Rule("le", Name("indices"), Name("indices")), False)
    return Selection(rule, causal and _looks_ahead(rule, corpus, known))


def _looks_ahead(rule: Rule, corpus: Corpus, known: Known) -> bool:
    """Whether a rule selects keys after the query."""
    found = selected_keys(Selection(rule, False), corpus, known)
    return any(bool(np.triu(grid, 1).any()) for grid in found)


def selected_keys(
    selection: Selection, corpus: Corpus, known: Mapping[str, Variable]
) -> list[Bool[np.ndarray, "_ _ _"]]:
    """Which keys each query of the corpus selects, group by group."""
    grids = {name: list(corpus.grids(variable.column)) for name, variable in known.items()}
    made = []
    for g, group in enumerate(corpus.groups):
        keys = {name: grid[g][:, None, :] for name, grid in grids.items()}
        queries = {name: grid[g][:, :, None] for name, grid in grids.items()}
        n = group.shape[1]
        found = np.broadcast_to(selection.rule.selected(keys, queries), (len(group), n, n))
        made.append(found & np.tril(np.ones((n, n), bool)) if selection.causal else found)
    return made


# ---- what is moved


@dataclass(frozen=True, eq=False)
class _Kinds:
    """The values that a head moves: a label for each position (-1 where it is not sure), and if they are numbers."""

    labels: Int64[np.ndarray, " places"]
    numbers: bool


def _kinds(tokens: Float[np.ndarray, "places f"], start: Float[np.ndarray, " f"], scale: float) -> _Kinds | str:
    """Numbers where all values lie on a line through that of the beginning; else as many classes as directions."""
    away = tokens - start
    few = away[:: max(1, len(away) // 4000)]
    strengths, directions = np.linalg.svd(few, full_matrices=False)[1:]
    if len(strengths) == 1 or strengths[1] < SAME * strengths[0]:
        along = away @ directions[0]
        unit = float(np.abs(along)[np.abs(along) > SAME * np.abs(along).max()].min())
        for times in range(1, MULTIPLES + 1):
            steps = times * along / unit * (1 if along.sum() >= 0 else -1)
            if np.abs(steps - np.rint(steps)).max() <= min(SAME * np.abs(steps).max(), FARTHEST):
                return _Kinds(np.rint(steps).astype(np.int64), True)
        return "the numbers that it moves are no small whole numbers"
    norms = np.linalg.norm(away, axis=1)
    pure = norms >= PURE * norms.max()
    rounded = np.rint(away / (4 * SAME * scale)).astype(np.int64)
    _, labels = np.unique(rounded[pure], axis=0, return_inverse=True)
    found = np.full(len(tokens), -1)
    found[pure] = labels
    if labels.max() >= 256:
        return "it moves more than 256 different values"
    return _Kinds(found, False)


def _carried(
    kinds: _Kinds,
    selection: Selection,
    pattern: _Pattern,
    corpus: Corpus,
    fitted: int,
    known: Known,
    deadline: float,
) -> list[Variable] | str:
    """The variables for the values that a head moves."""
    told = np.arange(len(kinds.labels)) < corpus.first(fitted).places
    if not kinds.numbers:
        if not pattern.single and not _alike(kinds.labels, pattern, corpus):
            return "it mixes values that are no numbers"
        value = _classes(np.where(told, kinds.labels, -1), known, deadline)
        if value is None:
            return "no expression for the values that it moves"
        return [_variable("picked", _title("picked", value, selection), selection, value, corpus, known, -1)]
    value = expressed(kinds.labels, told, known, deadline)
    if value is None:
        return "no expression for the numbers that it moves"
    if pattern.single:
        return [_variable("picked", _title("picked", value, selection), selection, value, corpus, known, 0)]
    made = [_variable("mean", "mean", selection, value, corpus, known)]
    if set(np.unique(kinds.labels)) <= {0, 1}:
        made.insert(0, _variable("counted", "count", selection, value, corpus, known))
    return made


def _alike(labels: Int64[np.ndarray, " places"], pattern: _Pattern, corpus: Corpus) -> bool:
    """Whether hardly any query surely selects keys of different values."""
    mixed = total = 0
    for grid, chosen, clean in zip(corpus.grids(labels), pattern.selected, pattern.clean, strict=True):
        least = np.where(chosen, grid[:, None, :], int(labels.max())).min(-1)
        most = np.where(chosen, grid[:, None, :], -1).max(-1)
        mixed += int(((most > least) & clean).sum())
        total += int(clean.sum())
    return mixed <= RARE * total


def _classes(labels: Int64[np.ndarray, " places"], known: Known, deadline: float) -> Expr | None:
    """A variable that tells the classes apart, or an expression for their numbers."""
    sure = labels >= 0
    _, found = np.unique(labels[sure], return_inverse=True)
    told = {name: column[sure] for name, column in columns(known).items()}
    for names in determining(found, told, 1):
        return Name(names[0])
    for size in (2, 3):
        for names in determining(found, told, size):
            ordered = _in_order(found, told, names)
            expr = explain(ordered, {name: told[name] for name in names}, deadline)
            if expr is not None:
                return expr
    return None


def _in_order(
    labels: Int64[np.ndarray, " places"], told: Mapping[str, Column], names: Sequence[str]
) -> Int64[np.ndarray, " places"]:
    """Classes numbered by how large the variables that tell them are on the whole."""
    rows = distinct(labels, told, names)
    means = [rows.keys[rows.values == label].mean() for label in range(int(labels.max()) + 1)]
    order: Int64[np.ndarray, " classes"] = np.argsort(np.argsort(means, kind="stable"), kind="stable")
    return np.asarray(order[labels], np.int64)


# ---- variables


def _title(kind: str, value: Expr, selection: Selection) -> str:
    """What a variable is called: for the variable that it moves, if it is one."""
    moved = value.name if isinstance(value, Name) else "value"
    before = selection.rule.op == "eq" and selection.rule.key == Name("indices")
    if before and selection.rule.query == _PREVIOUS:
        return f"previous_{moved}"
    if before and selection.rule.query == number(0):
        return f"first_{moved}"
    return f"{kind}_{moved}"


def _variable(
    kind: str,
    name: str,
    selection: Selection,
    value: Expr | None,
    corpus: Corpus,
    known: Known,
    default: int = 0,
) -> Variable:
    """A variable with its values at all positions."""
    column = _computed(kind, selection, value, corpus, known, default)
    if kind == "width" and np.array_equal(column, corpus.length):
        name = "length"
    taken = {*known}
    chosen = next(n for n in (name, *(f"{name}_{i}" for i in range(2, 999))) if n not in taken)
    return Variable(chosen, kind, column, selection, value, default)


def _computed(
    kind: str, selection: Selection, value: Expr | None, corpus: Corpus, known: Known, default: int
) -> Column:
    chosen = selected_keys(selection, corpus, known)
    if value is None:
        return corpus.flat([grid.sum(-1) for grid in chosen]).astype(np.int64)
    moved = np.broadcast_to(evaluate(value, columns(known)), corpus.tokens.shape)
    made = []
    for grid, values in zip(chosen, corpus.grids(moved), strict=True):
        width = grid.sum(-1)
        if kind == "picked":
            first = np.take_along_axis(values, grid.argmax(-1), axis=1)
            made.append(np.where(width > 0, first, default))
        else:
            total = (grid * values[:, None, :]).sum(-1)
            made.append(total if kind == "counted" else np.rint(total * PARTS / np.maximum(width, 1)))
    return corpus.flat(made).astype(np.int64)
