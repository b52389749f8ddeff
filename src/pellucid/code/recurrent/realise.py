"""From impulse responses to the shortest linear step program.

Given exact Markov parameters M[0], M[1], … (outputs [d_out], inputs [d_in]; y[t] = Σ_k M[k] u[t-k]):
1. A finite response becomes a window of named delays x1, x2, ….
2. Otherwise a minimal state space by Kalman's realisation: the first independent rows of the block Hankel matrix are
   the state (B. L. Ho and R. E. Kalman 1966; for one channel this is Berlekamp-Massey's recurrence).
3. Its basis is changed by elementary integer operations to the one with fewest bits, and the update is written as
   assignments in the best order, in place, outputs where they cost least.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations

import numpy as np
from jaxtyping import Float

from pellucid.code.expressions.expression import Expr, Name, bits, linear
from pellucid.code.recurrent.steps import Assign, StepProgram, assign, program_bits, program_text, tidy

Row = tuple[Fraction, ...]
Matrix = tuple[Row, ...]

MAX_STATE = 4
_DENOMINATOR = 8
_NEAR = 0.02
_BEAM, _ROUNDS = 12, 6


@dataclass(frozen=True)
class StateSpace:
    """s' = A s + B u; y = C s + D u, with the old s."""

    a: Matrix
    b: Matrix
    c: Matrix
    d: Matrix


def simple(value: float, denominator: int = _DENOMINATOR) -> Fraction | None:
    """The fraction p/q of smallest q within 0.02/q² of the value; None if there is none.

    The tolerance shrinks with q so that few numbers are taken for simple by chance: a random one in twelve.
    """
    for q in range(1, denominator + 1):
        p = round(value * q)
        if abs(value - p / q) * q * q <= _NEAR:
            return Fraction(p, q)
    return None


def window(
    markov: Float[np.ndarray, "lags d_out d_in"], names: Sequence[str], outputs: Sequence[str]
) -> StepProgram | None:
    """y = Σ M[k] x[t-k] with the past inputs as named delays; the last input is the constant 1. None if a coefficient
    is no simple fraction."""
    inputs = tuple(names[:-1])
    reach = [max((k for k in range(len(markov)) if markov[k, :, j].any()), default=0) for j in range(len(inputs))]

    def term(j: int, k: int) -> Expr:
        return Name(inputs[j] if k == 0 else f"{inputs[j]}{k}")

    body = []
    for i, output in enumerate(outputs):
        constant = simple(float(markov[:, i, -1].sum()))
        factors = {(k, j): simple(float(markov[k, i, j])) for k in range(len(markov)) for j in range(len(inputs))}
        if constant is None or None in factors.values():
            return None
        body.append(assign(output, linear([(f, term(j, k)) for (k, j), f in factors.items() if f], constant)))
    state = []
    for j, name in enumerate(inputs):
        state += [(f"{name}{k}", Fraction(0)) for k in range(1, reach[j] + 1)]
        body += [assign(f"{name}{k}", term(j, k - 1)) for k in range(reach[j], 0, -1)]
    return tidy(StepProgram(inputs, tuple(outputs), tuple(state), tuple(body)))


def state_space(markov: Float[np.ndarray, "lags d_out d_in"], tolerance: float) -> StateSpace | None:
    """A minimal realisation that reproduces all lags to within `tolerance`; None if that takes more than 4 states or
    numbers that are no simple fractions."""
    lags, d_out = markov.shape[:2]
    depth = min(MAX_STATE, (lags - 1) // 2)
    width = lags - 1 - depth
    if depth < 1:
        return None
    rows = {
        (k, i): np.concatenate([markov[k + 1 + j, i] for j in range(width)])
        for k in range(depth + 1)
        for i in range(d_out)
    }
    scale = max(1.0, max(float(np.abs(row).max()) for row in rows.values()))
    basis: list[tuple[int, int]] = []
    combos: dict[tuple[int, int], dict[tuple[int, int], Fraction | None]] = {}
    for k, i in rows:
        if (k, i) in combos or (k > 0 and (k - 1, i) not in basis):
            continue
        known = np.array([rows[key] for key in basis]).reshape(len(basis), len(rows[k, i])).T
        weights = np.linalg.lstsq(known, rows[k, i], rcond=None)[0] if basis else np.zeros(0)
        if np.abs(known @ weights - rows[k, i]).max() > tolerance * scale:
            basis.append((k, i))
            if len(basis) > MAX_STATE or k == depth:
                return None
        else:
            combos[k, i] = {key: simple(float(w)) for key, w in zip(basis, weights, strict=True)}
    return _assemble(markov, basis, combos)


def _assemble(
    markov: Float[np.ndarray, "lags d_out d_in"],
    basis: list[tuple[int, int]],
    combos: dict[tuple[int, int], dict[tuple[int, int], Fraction | None]],
) -> StateSpace | None:
    """The matrices, if all their entries are simple fractions."""

    def row(key: tuple[int, int]) -> list[Fraction | None]:
        if key in basis:
            return [Fraction(int(other == key)) for other in basis]
        return [combos[key].get(other, Fraction(0)) for other in basis]

    def lag(k: int, i: int) -> list[Fraction | None]:
        return [simple(float(v)) for v in markov[k, i]]

    parts = [
        _exact([row((k + 1, i)) for k, i in basis]),
        _exact([lag(k + 1, i) for k, i in basis]),
        _exact([row((0, i)) for i in range(markov.shape[1])]),
        _exact([lag(0, i) for i in range(markov.shape[1])]),
    ]
    a, b, c, d = parts
    return None if a is None or b is None or c is None or d is None else StateSpace(a, b, c, d)


def _exact(rows: Sequence[Sequence[Fraction | None]]) -> Matrix | None:
    if any(value is None for row in rows for value in row):
        return None
    return tuple(tuple(value for value in row if value is not None) for row in rows)


def _cost(space: StateSpace) -> float:
    """A cheap stand-in for the bits of the program: non-zero entries and their sizes, each row written on its own or as
    another row's new value plus a remainder."""
    new = np.array([[float(v) for v in (*a, *b)] for a, b in zip(space.a, space.b, strict=True)])
    out = np.array([[float(v) for v in (*c, *d)] for c, d in zip(space.c, space.d, strict=True)])
    wanted = np.concatenate([new, out])
    alone = _weight(wanted)
    reused = np.stack([1.0 + _weight(wanted[:, None] - sign * new[None]) for sign in (1, -1)])
    same = np.arange(len(wanted))[:, None] == np.arange(len(new))[None]
    return float(np.minimum(alone, np.where(same, np.inf, reused).min((0, 2))).sum())


def _weight(rows: Float[np.ndarray, "*rows width"]) -> Float[np.ndarray, "*rows"]:
    size, whole = np.abs(rows), np.abs(rows - np.rint(rows)) < 1e-9
    entry = 1 + 0.6 * np.maximum(size - 1, 0) + 3.0 * ~whole + 0.05 * (rows < 0)
    weight: Float[np.ndarray, "*rows"] = np.where(size > 1e-12, entry, 0.0).sum(-1)
    return weight


def _mixed(space: StateSpace, i: int, j: int, factor: Fraction) -> StateSpace:
    """New basis with s_i := s_i + factor · s_j (i ≠ j), or s_i := factor · s_i (i = j)."""
    a, b, c = ([list(row) for row in part] for part in (space.a, space.b, space.c))
    if i == j:
        a[i], b[i] = [factor * v for v in a[i]], [factor * v for v in b[i]]
        for row in (*a, *c):
            row[i] /= factor
    else:
        a[i] = [v + factor * w for v, w in zip(a[i], a[j], strict=True)]
        b[i] = [v + factor * w for v, w in zip(b[i], b[j], strict=True)]
        for row in (*a, *c):
            row[j] -= factor * row[i]
    frozen = [tuple(tuple(row) for row in part) for part in (a, b, c)]
    return StateSpace(frozen[0], frozen[1], frozen[2], space.d)


def _neighbours(space: StateSpace) -> Iterator[StateSpace]:
    n = len(space.a)
    for i in range(n):
        for factor in (Fraction(-1), Fraction(2), Fraction(1, 2), Fraction(3), Fraction(1, 3)):
            yield _mixed(space, i, i, factor)
        for j in range(n):
            if i != j:
                yield _mixed(space, i, j, Fraction(1))
                yield _mixed(space, i, j, Fraction(-1))


def bases(space: StateSpace) -> tuple[StateSpace, ...]:
    """The same system in the simplest bases that a beam search over elementary operations finds, best first."""
    seen = {space: _cost(space)}
    beam = [space]
    for _ in range(_ROUNDS):
        fresh = {near: _cost(near) for old in beam for near in _neighbours(old) if near not in seen}
        seen |= fresh
        beam = sorted(fresh, key=lambda s: (fresh[s], repr(s)))[:_BEAM]
    return tuple(sorted(seen, key=lambda s: (seen[s], repr(s)))[:_BEAM])


def _solve(rows: Sequence[Row], target: Row) -> Row | None:
    """Coefficients of `target` over `rows` by elimination over the fractions; None if it is not in their span."""
    n, system = len(rows), [[row[i] for row in rows] + [target[i]] for i in range(len(target))]
    pivots: list[int] = []
    for column in range(n):
        pick = next((r for r in range(len(pivots), len(system)) if system[r][column]), None)
        if pick is None:
            continue
        top = len(pivots)
        system[top], system[pick] = system[pick], system[top]
        system[top] = [v / system[top][column] for v in system[top]]
        for r in range(len(system)):
            if r != top and system[r][column]:
                factor = system[r][column]
                system[r] = [v - factor * w for v, w in zip(system[r], system[top], strict=True)]
        pivots.append(column)
    if any(line[-1] for line in system[len(pivots) :]):
        return None
    solution = [Fraction(0)] * n
    for r, column in enumerate(pivots):
        solution[column] = system[r][-1]
    return tuple(solution)


def programs(space: StateSpace, names: Sequence[str], outputs: Sequence[str]) -> Iterator[StepProgram]:
    """Ways to write the system as assignments: in place in every order that works, and all at once."""
    n, wide = len(space.a), len(space.a) + len(names)
    states = ["s"] if n == 1 else [f"s{i + 1}" for i in range(n)]
    rows: list[Row] = [(*a, *b) for a, b in zip(space.a, space.b, strict=True)]
    wanted: list[Row] = [(*c, *d) for c, d in zip(space.c, space.d, strict=True)]
    unit: list[Row] = [tuple(Fraction(int(i == j)) for j in range(wide)) for i in range(wide)]

    def expr(target: Row, current: Sequence[Row]) -> Expr | None:
        direct = _solve(current, target)
        if direct is None:
            return None
        symbols = [*states, *names]
        terms = [(v, Name(name)) for v, name in zip(direct, symbols, strict=True) if name != "1"]
        return linear(terms, direct[-1] if names[-1] == "1" else 0)

    for blocks in _ordered_partitions(tuple(range(n))):
        current, stages, body = list(unit), [list(unit)], []
        for block in blocks:
            values = tuple(expr(rows[i], current) for i in block)
            if None in values:
                break
            body.append(Assign(tuple(states[i] for i in block), tuple(v for v in values if v is not None)))
            current = [rows[i] if i in block else row for i, row in enumerate(current)]
            stages.append(current)
        else:
            yield _with_outputs(body, [[expr(w, stage) for stage in stages] for w in wanted], states, names, outputs)


def _ordered_partitions(items: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], ...]]:
    """All ways to split items into blocks in order: states of one block are updated at once."""
    if not items:
        yield ()
        return
    for size in range(1, len(items) + 1):
        for block in combinations(items, size):
            rest = tuple(item for item in items if item not in block)
            yield from ((block, *others) for others in _ordered_partitions(rest))


def _with_outputs(
    body: list[Assign],
    options: list[list[Expr | None]],
    states: list[str],
    names: Sequence[str],
    outputs: Sequence[str],
) -> StepProgram:
    """Each output at the stage of the body where it is shortest, as late as possible."""
    placed: list[list[Assign]] = [[] for _ in range(len(body) + 1)]
    for output, choices in zip(outputs, options, strict=True):
        costs = [(bits(value), -stage, stage, value) for stage, value in enumerate(choices) if value is not None]
        _, _, stage, value = min(costs, key=lambda item: item[:2])
        placed[stage].append(assign(output, value))
    steps = placed[0] + [s for done, later in zip(body, placed[1:], strict=True) for s in (done, *later)]
    state = tuple((name, Fraction(0)) for name in states)
    return tidy(StepProgram(tuple(n for n in names if n != "1"), tuple(outputs), state, tuple(steps)))


def shortest_program(space: StateSpace, names: Sequence[str], outputs: Sequence[str]) -> StepProgram:
    """The program of fewest bits over the simplest bases and all ways to write them."""
    options = {program for basis in bases(space) for program in programs(basis, names, outputs)}
    return min(options, key=lambda p: (program_bits(p), program_text(p)))
