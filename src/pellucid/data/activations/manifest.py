"""What a store of activations is of: the program, the text, the sites and what was wanted, each by its fingerprint."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput
from pellucid.ir.graph import Block
from pellucid.ir.program import Program
from pellucid.ir.units import Site

NAME = "manifest.json"


@dataclass(frozen=True)
class Wanted:
    """What is kept of every unit.

    Attributes:
        top: highest contexts, at most one of each window.
        strata, per_stratum: the active positions (activation above 0) are cut by activation into so many equal parts,
            with so many contexts of each.
        random: contexts drawn from all positions, active or not.
        kept: sampled active positions of each unit that the strata are cut from.
        sample: sampled positions, the same for all units, that quantiles and random contexts come from.
        first: positions before this one of each window are left out; 0 takes in the beginning.
        together: windows in a forward.
        shard: windows after which a killed run can go on.
        seed: of all that is drawn.
    """

    top: int = 20
    strata: int = 5
    per_stratum: int = 4
    random: int = 20
    kept: int = 40
    sample: int = 2048
    first: int = 1
    together: int = 8
    shard: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            least = 0 if name in ("seed", "first", "random") else 1
            if value < least:
                raise BadInput(f"capture: {name}={value} is too small; use at least {least}")
        if self.shard % self.together:
            raise BadInput(f"capture: shard={self.shard} is no multiple of together={self.together}; make it one")
        if self.kept < self.strata * self.per_stratum:
            raise BadInput(
                f"capture: kept={self.kept} cannot fill {self.strata} strata of {self.per_stratum}; raise it"
            )


class Manifest(BaseModel):
    """The head of a store, as JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal["pellucid activations 1"] = "pellucid activations 1"
    program: str
    corpus: str
    windows: int
    context: int
    sites: tuple[Site, ...]
    wanted: Wanted
    shards: int
    done: int = 0
    complete: bool = False

    def differs(self, other: Manifest) -> str:
        """What two stores are not both of, in words; empty when they are of the same."""
        mine, others = _plain(self), _plain(other)
        return next((words for name, words in _DIFFERENT.items() if mine[name] != others[name]), "")


_DIFFERENT = {
    "program": "another model",
    "corpus": "another corpus",
    "sites": "other sites",
    "wanted": "other options",
}


def manifest_of(program: Program, corpus: Corpus, sites: Sequence[Site], wanted: Wanted) -> Manifest:
    """The manifest of a capture that has not begun."""
    windows, context = corpus.ids.shape
    return Manifest(
        program=program_fingerprint(program), corpus=corpus.fingerprint, windows=windows, context=context,
        sites=tuple(sites), wanted=wanted, shards=-(-windows // wanted.shard),
    )  # fmt: skip


def read_manifest(directory: Path) -> Manifest | None:
    """The manifest of a store, None where there is none.

    Raises:
        BadInput: it is damaged, or of another format.
    """
    file = directory / NAME
    if not file.is_file():
        return None
    try:
        return Manifest.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "JSON"
        raise BadInput(f"{file}: not a manifest of activations ({where}: {first['msg']}); capture them anew") from error


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Replace the manifest of a store as a whole."""
    part = directory / f"{NAME}.part"
    with part.open("w", encoding="utf-8") as file:
        json.dump(_plain(manifest), file, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, directory / NAME)


def program_fingerprint(program: Program) -> str:
    """SHA-256 over the exact reading of every function and over all weights, in hex."""
    digest = hashlib.sha256(program.entry.encode())
    for name, function in sorted(program.functions.items()):
        digest.update(repr((name, function.inputs, _bare(function.reading("weights").body))).encode())
    for name, tensor in sorted(program.weights.items()):
        digest.update(repr((name, str(tensor.dtype), tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _bare(block: Block) -> Block:
    """A block without what tells only where it came from."""
    nodes = [node.with_changes(scope="", source="", body=node.body and _bare(node.body)) for node in block.nodes]
    return dataclasses.replace(block, nodes=tuple(nodes))


_MANIFEST = TypeAdapter(Manifest)


def _plain(manifest: Manifest) -> dict[str, object]:
    found: dict[str, object] = _MANIFEST.dump_python(manifest, mode="json")
    return found
