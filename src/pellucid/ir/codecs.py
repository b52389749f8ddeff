"""Codecs between frozen dataclasses and strict JSON: pairs of functions, composed as parser combinators are.

Written values are plain (dict, list, str, int, float, bool, None); fields at their default are left out. Reading trusts
nothing: types, bounds, unknown and repeated fields are checked, and a `Wrong` carries the path to what is wrong.
JSON has no NaN or infinity; a number that is not finite is written as the string "nan", "inf" or "-inf".
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

Plain: TypeAlias = Any
T = TypeVar("T")
U = TypeVar("U")

DEPTH_LIMIT = 120
"""Nesting of a JSON document; deeper ones are refused before anything recurses into them."""

LINE = 120
"""Width of a written document."""


class Wrong(Exception):
    """A document is not what it has to be: `path` leads to the place."""

    def __init__(self, cause: str, path: str = "") -> None:
        super().__init__(cause)
        self.cause = cause
        self.path = path

    def under(self, step: str) -> Wrong:
        """The same, seen from one level up."""
        return Wrong(self.cause, step + self.path)

    def __str__(self) -> str:
        where = self.path.lstrip(".") or "document"
        return " ".join(f"{where if len(where) <= 120 else where[:117] + '...'}: {self.cause}".split())


@dataclass(frozen=True)
class Codec(Generic[T]):
    """`write` turns a value into plain JSON, `read` turns it back or raises Wrong."""

    write: Callable[[T], Plain]
    read: Callable[[Plain], T]


# ---- scalars


def _is(kind: type | tuple[type, ...], what: str) -> Callable[[Plain], Any]:
    def read(value: Plain) -> Any:
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise Wrong(f"expected {what}, found {_shown(value)}")
        return value

    return read


def _shown(value: Plain) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _read_integer(value: Plain) -> int:
    number: int = _is(int, "an integer")(value)
    if not -(2**63) <= number < 2**64:
        raise Wrong(f"an integer of {number.bit_length()} bits; 64 are allowed")
    return number


def write_number(value: float) -> Plain:
    """A finite number as it is, any other as a string."""
    return value if math.isfinite(value) else repr(float(value))


def read_number(value: Plain) -> float:
    """A number, or the name of one that is not finite."""
    if value in ("nan", "inf", "-inf"):
        return float(value)
    return _read_integer(value) if isinstance(value, int) else _is(float, "a number")(value)


text: Codec[str] = Codec(lambda value: value, _is(str, "a string"))
flag: Codec[bool] = Codec(lambda value: value, _is(bool, "true or false"))
integer: Codec[int] = Codec(lambda value: value, _read_integer)
number: Codec[float] = Codec(write_number, read_number)


def choice(*names: str) -> Codec[Any]:
    """One of some strings."""

    def read(value: Plain) -> str:
        if not isinstance(value, str) or value not in names:
            raise Wrong(f"expected one of {', '.join(names)}; found {_shown(value)}")
        return value

    return Codec(lambda value: value, read)


# ---- containers


def maybe(inner: Codec[T]) -> Codec[T | None]:
    """A value or null."""
    return Codec(
        lambda value: None if value is None else inner.write(value),
        lambda value: None if value is None else inner.read(value),
    )


def integer_or(other: Codec[T]) -> Codec[int | T]:
    """An integer, or what `other` reads."""
    return Codec(
        lambda value: value if isinstance(value, int) else other.write(value),
        lambda value: integer.read(value) if isinstance(value, int) else other.read(value),
    )


def many(inner: Codec[T]) -> Codec[tuple[T, ...]]:
    """A tuple, as a list."""

    def read(value: Plain) -> tuple[T, ...]:
        items = _is(list, "a list")(value)
        return tuple(_at(f"[{i}]", inner, item) for i, item in enumerate(items))

    return Codec(lambda value: [inner.write(item) for item in value], read)


def pair(first: Codec[T], second: Codec[U]) -> Codec[tuple[T, U]]:
    """A tuple of two, as a list of two."""

    def read(value: Plain) -> tuple[T, U]:
        items = _is(list, "a list of two")(value)
        if len(items) != 2:
            raise Wrong(f"expected a list of two, found {len(items)}")
        return _at("[0]", first, items[0]), _at("[1]", second, items[1])

    return Codec(lambda value: [first.write(value[0]), second.write(value[1])], read)


def table(inner: Codec[T]) -> Codec[Mapping[str, T]]:
    """A mapping from strings, as an object."""

    def read(value: Plain) -> Mapping[str, T]:
        return {name: _at(f".{name}", inner, item) for name, item in _is(dict, "an object")(value).items()}

    return Codec(lambda value: {name: inner.write(item) for name, item in value.items()}, read)


def later(make: Callable[[], Codec[T]]) -> Codec[T]:
    """A codec that refers to itself."""
    return Codec(lambda value: make().write(value), lambda value: make().read(value))


def record(kind: type[T], /, **fields: Codec[Any]) -> Codec[T]:
    """A dataclass, as an object without the fields that have their default."""
    specs = {spec.name: spec for spec in dataclasses.fields(kind)}  # type: ignore[arg-type]
    assert specs.keys() == fields.keys(), f"codec of {kind.__name__} has other fields"
    required = [n for n, spec in specs.items() if spec.default is spec.default_factory is dataclasses.MISSING]

    def write(value: T) -> Plain:
        held = ((name, getattr(value, name)) for name in fields)
        return {name: fields[name].write(item) for name, item in held if not _is_default(specs[name], item)}

    def read(value: Plain) -> T:
        given = _is(dict, "an object")(value)
        if unknown := [name for name in given if name not in fields]:
            raise Wrong(f"unknown field {_shown(unknown[0])}")
        if missing := [name for name in required if name not in given]:
            raise Wrong(f"field {missing[0]!r} is missing")
        return kind(**{name: _at(f".{name}", fields[name], item) for name, item in given.items()})

    return Codec(write, read)


def _is_default(spec: dataclasses.Field[Any], value: object) -> bool:
    if spec.default is not dataclasses.MISSING:
        return type(value) is type(spec.default) and value == spec.default
    return spec.default_factory is not dataclasses.MISSING and value == spec.default_factory()


def _at(step: str, codec: Codec[T], value: Plain) -> T:
    try:
        return codec.read(value)
    except Wrong as wrong:
        raise wrong.under(step) from None


# ---- documents


def parse(document: str) -> Plain:
    """Strict JSON: no NaN, no repeated names, no numbers that overflow, bounded nesting. Raises Wrong."""
    try:
        value = json.loads(document, parse_constant=_refuse, parse_float=_finite, object_pairs_hook=_distinct)
    except json.JSONDecodeError as error:
        raise Wrong(f"not JSON: {error.msg} in line {error.lineno}, column {error.colno}") from None
    except ValueError as error:
        raise Wrong(f"not JSON: {str(error).splitlines()[0]}") from None
    except RecursionError:
        raise Wrong(f"nested deeper than {DEPTH_LIMIT} levels") from None
    if _depth(value) > DEPTH_LIMIT:
        raise Wrong(f"nested deeper than {DEPTH_LIMIT} levels")
    return value


def _refuse(name: str) -> Plain:
    raise Wrong(f"not JSON: {name}")


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise Wrong(f"the number {digits[:20]} is out of range")
    return value


def _distinct(pairs: Iterable[tuple[str, Plain]]) -> dict[str, Plain]:
    made: dict[str, Plain] = {}
    for name, value in pairs:
        if name in made:
            raise Wrong(f"the name {name[:60]!r} is repeated")
        made[name] = value
    return made


def _depth(value: Plain) -> int:
    level, depth = [value], 0
    while level and depth <= DEPTH_LIMIT:
        depth += 1
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer if isinstance(outer, list) else ())
            if isinstance(inner, dict | list)
        ]
    return depth


def compact(value: Plain) -> str:
    """The one shortest spelling of a plain value."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def layout(value: Plain, indent: int = 0) -> str:
    """JSON to be read by people: one line where it fits, else one entry a line; long lists of scalars stay on one."""
    line = json.dumps(value, ensure_ascii=False, allow_nan=False)
    flat = isinstance(value, list) and not any(isinstance(item, dict | list) for item in value)
    if not isinstance(value, dict | list) or flat or len(line) + indent <= LINE:
        return line
    space = " " * (indent + 1)
    if isinstance(value, dict):
        entries = [
            f"{json.dumps(name, ensure_ascii=False)}: {layout(item, indent + 1)}" for name, item in value.items()
        ]
        return "{\n" + ",\n".join(space + entry for entry in entries) + "\n" + " " * indent + "}"
    return "[\n" + ",\n".join(space + layout(item, indent + 1) for item in value) + "\n" + " " * indent + "]"
