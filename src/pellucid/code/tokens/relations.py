"""Which keys a query selects, as a comparison of what is known at the key with what is known at the query.

The relation is given on pairs of positions. The fewest variables at the key and at the query that determine it are
sought, and for them, cheapest first: all keys; a comparison of one variable with another, or with a sum or difference
of those at the query; one key value for each query (so that it equals a function of the query), or one query value for
each key; an order (keys below the query by one variable, ties by a second); a condition of any other form.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from jaxtyping import Bool, Int64

from pellucid.code.expressions.expression import Expr, Name, bits, evaluate, linear, number
from pellucid.code.tokens.dependence import Column, Columns, Rows, determining, distinct, explain, formula

Grid = Int64[np.ndarray, "..."]

AT_KEY, AT_QUERY = "key ", "query "
"""Put before the names of variables, in expressions over both."""

ROOM = 1.5
POWERS = (10, 100, 1000, 10**4, 10**5, 10**6)
"""The first variable of an order is multiplied by the least of these that leaves room for values of the second."""

LARGEST_SET = 4
ONE = number(1)
SETS = 4
COMPARED = ("eq", "lt", "le", "gt", "ge", "ne")


@dataclass(frozen=True)
class Rule:
    """`key op query`, or a condition over both where `op` is "holds"; `op` "all" selects every key.

    Attributes:
        op: "all", "holds", or a comparison.
        key: over variables at the key; the condition (over names with `AT_KEY` and `AT_QUERY`) for "holds".
        query: over variables at the query.
    """

    op: str
    key: Expr = ONE
    query: Expr = ONE

    @property
    def bits(self) -> float:
        """Description length."""
        return 0.0 if self.op == "all" else 4.0 + bits(self.key) + (bits(self.query) if self.op != "holds" else 0.0)

    def selected(self, keys: Mapping[str, Grid], queries: Mapping[str, Grid]) -> Bool[np.ndarray, "..."]:
        """Where it holds, for variables at keys and queries that broadcast together."""
        if self.op == "all":
            shapes = [np.shape(column) for side in (keys, queries) for column in side.values()]
            return np.ones(np.broadcast_shapes(*shapes), bool)
        if self.op == "holds":
            return np.asarray(evaluate(self.key, sides(keys, queries)) != 0)
        left, right = evaluate(self.key, keys), evaluate(self.query, queries)
        compare = {"eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal}
        compare |= {"gt": np.greater, "ge": np.greater_equal}
        return np.asarray(compare[self.op](left, right))


def sides(keys: Mapping[str, Grid], queries: Mapping[str, Grid]) -> dict[str, Grid]:
    """Variables at the key and at the query, by names that tell them apart."""
    both = {f"{AT_KEY}{name}": column for name, column in keys.items()}
    return both | {f"{AT_QUERY}{name}": column for name, column in queries.items()}


def find_rule(selected: Bool[np.ndarray, " pairs"], keys: Columns, queries: Columns, deadline: float) -> Rule | None:
    """The shortest rule found that selects these pairs; None if there is none in time.

    Args:
        selected: for each pair of a query and a key.
        keys: variables at the key, for each pair.
        queries: variables at the query, for each pair.
        deadline: of `time.monotonic`.
    """
    target = selected.astype(np.int64)
    if selected.all():
        return Rule("all")
    positive = frozenset(name for name, column in queries.items() if (column > 0).all())
    for size in range(1, LARGEST_SET + 1):
        found: list[Rule] = []
        for names in determining(target, sides(keys, queries), size):
            found += list(_rules(distinct(target, sides(keys, queries), names, positive), deadline))
            if len(found) >= SETS or time.monotonic() > deadline:
                break
        if found:
            return min(found, key=lambda rule: rule.bits)
        if time.monotonic() > deadline:
            return None
    return None


def _rules(rows: Rows, deadline: float) -> Iterator[Rule]:
    """The first of the ways to write the relation that holds."""
    key = tuple(name for name in rows.names if name.startswith(AT_KEY))
    query = tuple(name for name in rows.names if name.startswith(AT_QUERY))
    for rule in _options(rows, key, query, deadline):
        if rule is not None and _holds(rule, rows):
            yield rule
            return


def _options(rows: Rows, key: tuple[str, ...], query: tuple[str, ...], deadline: float) -> Iterator[Rule | None]:
    if key and query:
        yield from _compared(rows, key, query)
        yield _one_key(rows, key, query, deadline)
        yield _one_query(rows, key, query, deadline)
        yield _ordered(rows, key, query, deadline)
    expr = formula(rows, deadline)
    yield Rule("holds", expr) if expr is not None else None


def _plain(name: str) -> str:
    return name.removeprefix(AT_KEY).removeprefix(AT_QUERY)


def _columns(rows: Rows, start: str) -> dict[str, Column]:
    return {_plain(name): column for name, column in rows.columns.items() if name.startswith(start)}


def _holds(rule: Rule, rows: Rows) -> bool:
    found = rule.selected(_columns(rows, AT_KEY), _columns(rows, AT_QUERY))
    return bool((found == (rows.values == 1)).all())


def _compared(rows: Rows, key: tuple[str, ...], query: tuple[str, ...]) -> Iterator[Rule]:
    """A variable, or the sum of two, beside another with a small constant."""
    for left in _sums(key):
        for right in _sums(query):
            for gap in (0, 1, -1, 2, -2):
                for op in COMPARED:
                    if gap and op in ("le", "ge", "ne"):
                        continue
                    yield Rule(op, left, right if not gap else _moved(right, gap))


def _sums(names: tuple[str, ...]) -> list[Expr]:
    plain = [Name(_plain(name)) for name in names]
    if len(plain) == 1:
        return [*plain]
    return [
        linear([(1, a), (sign, b)])
        for x, y in combinations(plain, 2)
        for sign, a, b in ((1, x, y), (-1, x, y), (-1, y, x))
    ]


def _moved(expr: Expr, gap: int) -> Expr:
    terms = getattr(expr, "terms", None)
    return linear(list(terms) if terms is not None else [(1, expr)], gap)


def _one_key(rows: Rows, key: tuple[str, ...], query: tuple[str, ...], deadline: float) -> Rule | None:
    """key == f(query): each query selects one value of the one variable at the key."""
    if len(key) != 1:
        return None
    expr = _partner(rows, key[0], query, deadline)
    return Rule("eq", Name(_plain(key[0])), expr) if expr is not None else None


def _one_query(rows: Rows, key: tuple[str, ...], query: tuple[str, ...], deadline: float) -> Rule | None:
    """f(key) == query."""
    if len(query) != 1:
        return None
    expr = _partner(rows, query[0], key, deadline)
    return Rule("eq", expr, Name(_plain(query[0]))) if expr is not None else None


def _partner(rows: Rows, one: str, others: tuple[str, ...], deadline: float) -> Expr | None:
    """The value of `one` that goes with the other variables, as a function of them."""
    met = rows.only(rows.values == 1)
    if not len(met.values):
        return None
    columns = {_plain(name): met.columns[name] for name in others}
    wanted = met.columns[one]
    if not next(determining(wanted, columns, len(others)), ()):
        return None
    return explain(wanted, columns, deadline, positive=rows.positive)


def _ordered(rows: Rows, key: tuple[str, ...], query: tuple[str, ...], deadline: float) -> Rule | None:
    """f(key) < f(query), the same f of the same one or two variables: the second decides where the first is equal."""
    names = tuple(_plain(name) for name in key)
    if names != tuple(_plain(name) for name in query) or len(names) > 2:
        return None
    orders = [names] if len(names) == 1 else [names, names[::-1]]
    for made in (_plain_orders, _ranked_orders):
        found = [
            Rule(op, expr, expr)
            for first, *second in orders
            for expr in made(rows, first, second, deadline)
            for op in ("lt", "le", "gt", "ge")
        ]
        best = min((rule for rule in found if _holds(rule, rows)), key=lambda rule: rule.bits, default=None)
        if best is not None:
            return best
    return None


def _plain_orders(rows: Rows, first: str, second: list[str], _: float) -> Iterator[Expr]:
    """The first variable itself, and the second for ties."""
    yield from _with_ties(rows, Name(first), second)


def _ranked_orders(rows: Rows, first: str, second: list[str], deadline: float) -> Iterator[Expr]:
    """The rank of the values of the first variable among those that are surely selected or not."""
    for down in (False, True):
        expr = _rank(rows, first, down, deadline)
        if expr is not None:
            yield from _with_ties(rows, expr, second)


def _with_ties(rows: Rows, expr: Expr, second: list[str]) -> Iterator[Expr]:
    if not second:
        yield expr
        return
    sides = [rows.columns[f"{side}{second[0]}"] for side in (AT_KEY, AT_QUERY)]
    if min(int(side.min()) for side in sides) >= 0:
        most = max(int(side.max()) for side in sides)
        reach = next(power for power in POWERS if power > ROOM * most)
        for sign in (1, -1):
            yield linear([(reach, expr), (sign, Name(second[0]))])


def _rank(rows: Rows, first: str, down: bool, deadline: float) -> Expr | None:
    """A number for the values of `first` by which keys are below queries."""
    below, above = rows.columns[f"{AT_KEY}{first}"], rows.columns[f"{AT_QUERY}{first}"]
    values = np.unique(np.concatenate([below, above]))
    always: Int64[np.ndarray, "values values"] = np.full((len(values), len(values)), -1)
    at = np.searchsorted(values, above), np.searchsorted(values, below)
    ones, zeros = np.zeros_like(always), np.zeros_like(always)
    np.add.at(ones, at, rows.values)
    np.add.at(zeros, at, 1 - rows.values)
    surely = (ones > 0) & (zeros == 0)
    rank = surely.sum(0 if down else 1)
    rank = np.searchsorted(np.unique(rank), rank)
    return explain(rank.astype(np.int64), {first: values}, deadline)
