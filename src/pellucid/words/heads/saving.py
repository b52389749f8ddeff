"""Rules of heads as files: `heads.json` (grammar, names; strict JSON) and `heads.safetensors` (numbers, clusters)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from pellucid.errors import BadInput
from pellucid.ir.codecs import Wrong, flag, integer, layout, many, maybe, parse, record, text
from pellucid.ir.tensors import read_tensors, write_tensors
from pellucid.words.heads.rule import HeadRule, Heads
from pellucid.words.heads.scene import Grammar

FORMAT, VERSION = "pellucid heads", 1
DOCUMENT, NUMBERS = "heads.json", "heads.safetensors"


@dataclass(frozen=True)
class _Named:
    function: str
    head: int
    rests: bool


@dataclass(frozen=True)
class _Document:
    format: str
    version: int
    grammar: Grammar
    heads: tuple[_Named, ...]


_grammar = record(
    Grammar,
    vocabulary=integer,
    clusters=integer,
    ends=many(integer),
    listed=many(integer),
    offsets=many(integer),
    beginning=maybe(integer),
)
_document = record(
    _Document,
    format=text,
    version=integer,
    grammar=_grammar,
    heads=many(record(_Named, function=text, head=integer, rests=flag)),
)


def save_heads(rules: Sequence[HeadRule], directory: str | PathLike[str]) -> None:
    """Write rules of one grammar into a directory, which is made where there is none.

    Raises:
        BadInput: there are none, or their grammars differ.
    """
    heads = Heads.of(rules)
    named = tuple(_Named(rule.function, rule.head, rule.rests) for rule in rules)
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    write_tensors(folder / NUMBERS, {**heads.tables, "clusters": heads.clusters})
    document = layout(_document.write(_Document(FORMAT, VERSION, heads.grammar, named)))
    (folder / DOCUMENT).write_text(document + "\n", encoding="utf-8")


def load_heads(directory: str | PathLike[str]) -> tuple[HeadRule, ...]:
    """Read what `save_heads` wrote.

    Raises:
        BadInput: a file is missing or damaged, or the two do not fit together.
    """
    path = Path(directory) / DOCUMENT
    try:
        document = _document.read(parse(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; give a directory that save_heads wrote") from None
    except (Wrong, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: damaged ({error}); fit the rules again") from None
    if (document.format, document.version) != (FORMAT, VERSION):
        raise BadInput(f"{path}: not rules of heads in version {VERSION}; fit the rules again")
    tensors = read_tensors(path.with_name(NUMBERS))
    clusters = tensors.pop("clusters", None)
    if clusters is None or any(len(tensor) != len(document.heads) for tensor in (clusters, *tensors.values())):
        raise BadInput(f"{path.with_name(NUMBERS)}: its tensors are not of {len(document.heads)} heads; fit them again")
    names = tuple((named.function, named.head) for named in document.heads)
    return Heads(names, document.grammar, clusters, tensors, tuple(named.rests for named in document.heads)).rules()
