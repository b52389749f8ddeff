"""Programs as files: `program.json` (strict JSON) and `weights.safetensors`; the round trip is the identity.

`program.json` names its format and version, lists every weight with its type and SHA-256, and carries the SHA-256 of
its own contents, so that any flipped bit in either file is found. Everything read is checked (`codecs`, `validate`)
before it is used; nothing in a file is ever evaluated.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import get_args

import torch
from jaxtyping import Shaped

from pellucid.errors import BadInput, InvalidProgram
from pellucid.ir.codecs import (
    Codec,
    Plain,
    Wrong,
    choice,
    compact,
    integer,
    integer_or,
    later,
    layout,
    many,
    maybe,
    number,
    pair,
    parse,
    read_number,
    record,
    table,
    text,
    write_number,
)
from pellucid.ir.codecs import flag as boolean
from pellucid.ir.directory import FORMAT, PROGRAM, WEIGHTS, replaced, writing
from pellucid.ir.graph import Arg, Block, Node, Ref, ValueType, Weight
from pellucid.ir.notes import Attempt, ModuleMeasure, Notes, Verdict
from pellucid.ir.program import Function, Measure, Program, Reading
from pellucid.ir.regions import Region, RegionTree, Unit
from pellucid.ir.tensors import digest, read_tensors, write_tensors
from pellucid.ir.validate import validate

Tensor = Shaped[torch.Tensor, "..."]

VERSION = 1
SIZE_LIMIT = 256 * 2**20
"""Bytes of a `program.json` that is read."""


# ---- the formats of the parts


def _write_argument(arg: Arg) -> Plain:
    if isinstance(arg, tuple):
        return [_write_argument(item) for item in arg]
    if isinstance(arg, Ref):
        return {"ref": arg.name}
    if isinstance(arg, Weight):
        return {"weight": arg.name}
    plain = write_number(arg) if isinstance(arg, float) else arg
    return {"float": plain} if isinstance(arg, float) and isinstance(plain, str) else plain


def _read_argument(value: Plain) -> Arg:
    if isinstance(value, list):
        return tuple(_read_argument(item) for item in value)
    if isinstance(value, dict):
        tag, content = next(iter(value.items())) if len(value) == 1 else ("", None)
        if tag in ("ref", "weight"):
            name = text.read(content)
            return Ref(name) if tag == "ref" else Weight(name)
        if tag == "float" and isinstance(content, str):
            return read_number(content)
        raise Wrong("an argument is a plain value, {ref}, {weight} or {float}")
    if isinstance(value, bool | str) or value is None:
        return value
    return read_number(value)


_argument: Codec[Arg] = Codec(_write_argument, _read_argument)
_names = many(text)
_kind = choice("weights", "code", "words")
_type = record(ValueType, dtype=text, axes=many(integer_or(text)))
_block: Codec[Block] = record(Block, inputs=_names, nodes=many(later(lambda: _node)), outputs=_names)
_node: Codec[Node] = record(
    Node,
    outputs=_names,
    op=text,
    args=many(_argument),
    kwargs=many(pair(text, _argument)),
    function=text,
    body=maybe(_block),
    scope=text,
    source=text,
)
_reading = record(
    Reading,
    kind=_kind,
    body=_block,
    method=text,
    bits=number,
    summary=text,
    measure=choice(*get_args(Measure)),
    budget=number,
)
_function = record(
    Function,
    name=text,
    kind=text,
    scope=text,
    inputs=_names,
    outputs=_names,
    readings=many(_reading),
    chosen=_kind,
)
_unit = record(Unit, value=text, axis=integer, indices=many(integer))
_region: Codec[Region] = record(
    Region, name=text, kind=text, nodes=_names, units=many(_unit), children=many(later(lambda: _region))
)
_regions = record(RegionTree, root=_region, origin=text)
verdict_codec: Codec[Verdict] = record(
    Verdict,
    part=text,
    reading=_kind,
    measure=text,
    value=number,
    unit=text,
    interval=pair(number, number),
    inputs=integer,
    kind=choice("proved", "sampled"),
    control=number,
    passed=boolean,
    bar=text,
    detail=text,
)
_attempt = record(Attempt, part=text, method=text, outcome=text)
_notes = record(
    Notes,
    verdicts=many(verdict_codec),
    trail=many(_attempt),
    descriptions=table(text),
    loss_shares=table(number),
    remarks=_names,
    modules=many(record(ModuleMeasure, measure=text, value=number, random=number, unit=text)),
)


@dataclass(frozen=True)
class Stored:
    """What `program.json` says of a weight."""

    dtype: str
    axes: tuple[int, ...]
    sha256: str


@dataclass(frozen=True)
class Contents:
    """A program with descriptions of its weights in place of them."""

    entry: str
    source: str
    fingerprint: str
    functions: tuple[Function, ...]
    values: Mapping[str, ValueType]
    weights: Mapping[str, Stored]
    regions: RegionTree | None
    notes: Notes


_contents = record(
    Contents,
    entry=text,
    source=text,
    fingerprint=text,
    functions=many(_function),
    values=table(_type),
    weights=table(record(Stored, dtype=text, axes=many(integer), sha256=text)),
    regions=maybe(_regions),
    notes=_notes,
)


# ---- programs and text


def to_json(program: Program) -> str:
    """The text of `program.json`.

    Raises:
        InvalidProgram: the program breaks a rule, so that it could not be read back.
    """
    validate(program)
    weights = {name: _describe(tensor) for name, tensor in program.weights.items()}
    plain = _contents.write(
        Contents(
            program.entry,
            program.source,
            program.fingerprint,
            tuple(program.functions.values()),
            program.values,
            weights,
            program.regions,
            program.notes,
        )
    )
    return layout({"format": FORMAT, "version": VERSION, "sha256": _seal(plain), "program": plain}) + "\n"


def from_json(document: str, weights: Mapping[str, Tensor], where: str = PROGRAM) -> Program:
    """The program that `to_json` wrote, with its weights; `where` names the document in messages.

    Raises:
        BadInput: the document or a weight is damaged, or the program breaks a rule.
    """
    contents = _read_contents(document, where)
    _check_weights(contents.weights, weights, where)
    functions = {function.name: function for function in contents.functions}
    if len(functions) < len(contents.functions):
        raise BadInput(f"{where}: two functions have the same name; decompile again")
    program = Program(
        entry=contents.entry,
        functions=functions,
        values=contents.values,
        weights={name: weights[name] for name in contents.weights},
        fingerprint=contents.fingerprint,
        source=contents.source,
        regions=contents.regions,
        notes=contents.notes,
    )
    try:
        validate(program)
    except InvalidProgram as error:
        raise BadInput(f"{where}: {error}; decompile again") from error
    return program


def _seal(plain: Plain) -> str:
    return hashlib.sha256(compact(plain).encode()).hexdigest()


def _describe(tensor: Tensor) -> Stored:
    return Stored(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape), digest(tensor))


def _read_contents(document: str, where: str) -> Contents:
    try:
        plain = parse(document)
    except Wrong as wrong:
        raise BadInput(f"{where}: {wrong.cause}; the file is damaged, decompile again") from None
    if not isinstance(plain, dict) or plain.get("format") != FORMAT:
        raise BadInput(f"{where}: not a pellucid program; give a directory that `pellucid decompile` wrote")
    if plain.get("version") != VERSION:
        raise BadInput(
            f"{where}: written in format version {str(plain.get('version'))[:20]}, this pellucid reads {VERSION}; "
            "install the pellucid that wrote it, or decompile again"
        )
    body = plain.get("program")
    if plain.get("sha256") != _seal(body):
        raise BadInput(f"{where}: its contents do not match its SHA-256; it was damaged or edited, decompile again")
    try:
        return _contents.read(body)
    except Wrong as wrong:
        raise BadInput(f"{where}: {wrong}; the file is damaged, decompile again") from None


def _check_weights(wanted: Mapping[str, Stored], given: Mapping[str, Tensor], where: str) -> None:
    for name, stored in wanted.items():
        if name not in given:
            raise BadInput(
                f"{where}: tensor {name!r} is missing from the weights; restore {WEIGHTS} or decompile again"
            )
        found = str(given[name].dtype).removeprefix("torch."), tuple(given[name].shape)
        if found != (stored.dtype, stored.axes):
            raise BadInput(
                f"{where}: tensor {name!r} is {found[0]}{list(found[1])} in the weights, the program needs "
                f"{stored.dtype}{list(stored.axes)}; restore {WEIGHTS} or decompile again"
            )
        if digest(given[name]) != stored.sha256:
            raise BadInput(
                f"{where}: tensor {name!r} differs from the one that was saved; restore {WEIGHTS} or decompile again"
            )


# ---- programs and files


def save_program(program: Program, directory: str | PathLike[str]) -> None:
    """Write `program.json` and `weights.safetensors` into `directory`, each replaced in one step.

    Raises:
        BadInput: the directory is not ours or cannot be written.
        InvalidProgram: the program breaks a rule; nothing is written then.
    """
    document = to_json(program)
    with writing(directory) as place, replaced(place / WEIGHTS) as weights, replaced(place / PROGRAM) as contents:
        write_tensors(weights, program.weights)
        contents.write_text(document, encoding="utf-8")


def load_program(directory: str | PathLike[str]) -> Program:
    """Read what `save_program` wrote; the weights are mapped, not copied.

    Raises:
        BadInput: a file is missing, damaged, of a newer version, or does not fit the other.
    """
    path = Path(directory) / PROGRAM
    try:
        if path.stat().st_size > SIZE_LIMIT:
            raise BadInput(f"{path}: larger than {SIZE_LIMIT:,} bytes; it is no program.json that pellucid wrote")
        document = path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        raise BadInput(f"{path}: no such file; give a directory that `pellucid decompile` wrote") from None
    except UnicodeDecodeError:
        raise BadInput(f"{path}: not UTF-8 text; the file is damaged, decompile again") from None
    except OSError as error:
        raise BadInput(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    return from_json(document, read_tensors(Path(directory) / WEIGHTS), str(path))


def same_program(first: Program, second: Program) -> bool:
    """Whether two programs are equal in everything, weights bit by bit."""
    if {n: _describe(t) for n, t in first.weights.items()} != {n: _describe(t) for n, t in second.weights.items()}:
        return False
    return dataclasses.replace(first, weights={}) == dataclasses.replace(second, weights={})
