"""Capture: a text runs through the program once, and what was wanted of every unit is kept.

The windows are taken in shards. After each, the running summary and the shard's sampled rows are on disk, and only then
does the manifest count it: a run that was killed, or whose disk was full, goes on there and ends with the same bytes.
Memory holds a batch, the summary and a shard's sampled rows, whatever the length of the text.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from os import PathLike
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64, UInt64

from pellucid.data.activations.files import (
    contexts_file,
    read_sample,
    read_state,
    sample_file,
    state_file,
    units_file,
    write_groups,
    write_sample,
    write_state,
)  # fmt: skip
from pellucid.data.activations.forward import check_vocabulary, observe
from pellucid.data.activations.manifest import Manifest, Wanted, manifest_of, read_manifest, write_manifest
from pellucid.data.activations.store import Store
from pellucid.data.activations.summary import Summary, keys_of, nothing_seen
from pellucid.data.activations.tables import contexts_table, sampled_places, units_table
from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput, CannotRun
from pellucid.fanout import HERE, Fan
from pellucid.ir.program import Program
from pellucid.ir.units import Site

Rows: TypeAlias = Float32[np.ndarray, "_ _"]


def capture(
    program: Program,
    corpus: Corpus,
    sites: Sequence[Site],
    directory: str | PathLike[str],
    wanted: Wanted | None = None,
    progress: Callable[[int, int], None] | None = None,
    fan: Fan = HERE,
) -> Store:
    """The activations of sites over a corpus, summed up in a directory; goes on with what a killed run left there.

    Args:
        sites: see `pellucid.ir.units.sites`; the exact program runs up to the last of them.
        directory: new, empty, or of the same capture: the same model, corpus, sites and options.
        wanted: what is kept of every unit.
        progress: called after each shard with the windows done and all windows.
        fan: what shards are taken on; their number and order are always the same, and so is the store.

    Raises:
        BadInput: the corpus is of another vocabulary or shorter than the context, no sites are given or one has no
            units at every position, the directory is of another capture or of something else, or the disk is full:
            what was done is kept, and the same call goes on from there.
        CannotRun: the program fails, or gives numbers that are not finite.
    """
    wanted, place = wanted or Wanted(), Path(directory)
    _check(program, corpus, sites, wanted)
    manifest = manifest_of(program, corpus, list(dict.fromkeys(sites)), wanted)
    with _explained(place, manifest):
        manifest = _begun(place, manifest)
    if not manifest.complete:
        with _explained(place, manifest):
            running = _state(place, manifest)
        left = range(manifest.done, manifest.shards)
        for later, rows in fan(_shard, (program, corpus, manifest.sites, wanted, running), left):
            running.merge(later)
            with _explained(place, manifest):
                manifest = _kept(place, manifest, running, rows)
            if progress is not None:
                progress(min(manifest.done * wanted.shard, len(corpus)), len(corpus))
        with _explained(place, manifest):
            _write_tables(place, manifest, running)
            manifest = manifest.model_copy(update={"complete": True})
            write_manifest(place, manifest)
    _remove(place, "state-*", "sample-*", "*.part")
    return Store(place, manifest)


def _shard(shared: tuple[Program, Corpus, tuple[Site, ...], Wanted, Summary], shard: int) -> tuple[Summary, list[Rows]]:
    """A shard, after what is known when it is taken: here all before it, in another process less of it."""
    program, corpus, sites, wanted, before = shared
    return one_shard(program, corpus, sites, wanted, shard, before)


def one_shard(
    program: Program, corpus: Corpus, sites: Sequence[Site], wanted: Wanted, shard: int, before: Summary | None = None
) -> tuple[Summary, list[Rows]]:
    """The summary of one shard of a corpus, and the rows of each site that were sampled in it.

    Shards can be taken by several machines: merging their summaries in order gives that of the whole.

    Args:
        before: the summary of what comes before it, where it is known: what cannot enter its lists is left out.
    """
    context = corpus.ids.shape[1]
    begin = shard * wanted.shard
    seen = nothing_seen(_units(sites), wanted.top, wanted.kept) if before is None else before.to_beat()
    parts = dict(zip(sites, _parts(seen, sites), strict=True))
    places = sampled_places(len(corpus), context, wanted)
    rows = {site: list[Rows]() for site in sites}
    for ids in corpus.rows(slice(begin, begin + wanted.shard)).batches(wanted.together):
        place = begin * context
        here = np.arange(place, place + ids.numel()).reshape(ids.shape)
        chosen = places[(places >= place) & (places < place + ids.numel())] - place
        batch = _Batch(place, keys_of(here, wanted.seed), chosen)
        observe(program, ids, sites, partial(_add, batch, parts, rows, wanted.first))
        begin += len(ids)
    for site, part in parts.items():
        if not (np.isfinite(part.low).all() and np.isfinite(part.high).all() and np.isfinite(part.total).all()):
            raise CannotRun(f"site {site}: the network gives numbers there that are not finite; check its weights")
    return seen, [np.concatenate(rows[site]) for site in sites]


@dataclass(frozen=True)
class _Batch:
    """Some windows: the place of their first position in the text, all keys, and which positions are sampled."""

    place: int
    keys: UInt64[np.ndarray, "windows context"]
    chosen: Int64[np.ndarray, " chosen"]


def _add(
    batch: _Batch,
    parts: Mapping[Site, Summary],
    rows: Mapping[Site, list[Rows]],
    first: int,
    site: Site,
    activations: Float32[np.ndarray, "windows context units"],
) -> None:
    parts[site].add(activations, batch.place, batch.keys, first)
    rows[site].append(activations.reshape(-1, site.units)[batch.chosen])


def _units(sites: Sequence[Site]) -> int:
    return sum(site.units for site in sites)


def _parts(seen: Summary, sites: Sequence[Site]) -> Iterator[Summary]:
    start = 0
    for site in sites:
        yield seen.part(start, site.units)
        start += site.units


def _check(program: Program, corpus: Corpus, sites: Sequence[Site], wanted: Wanted) -> None:
    if not sites:
        raise BadInput("capture: no sites were given; choose some with pellucid.ir.units.sites")
    if corpus.ids.shape[1] <= wanted.first:
        raise BadInput(
            f"corpus: windows of {corpus.ids.shape[1]} tokens have none after the first {wanted.first}; use a longer"
            " context"
        )
    check_vocabulary(program, corpus)


# ---- the directory


@contextmanager
def _explained(place: Path, manifest: Manifest) -> Iterator[None]:
    """Errors of writing as one line: what went wrong, and what is kept."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        cause = "the disk is full" if full else f"cannot be written ({error.strerror or error})"
        done = min(manifest.done * manifest.wanted.shard, manifest.windows)
        raise BadInput(
            f"{place}: {cause}; {done} of {manifest.windows} windows are kept: make room and run the same again"
        ) from error


def _begun(place: Path, manifest: Manifest) -> Manifest:
    """The manifest that the directory has, after a check that it is of the same capture, or now gets."""
    found = read_manifest(place) if place.is_dir() else None
    if found is None:
        if place.exists() and (not place.is_dir() or any(entry.suffix != ".part" for entry in place.iterdir())):
            raise BadInput(f"{place}: holds something else than activations; give a new directory")
        place.mkdir(parents=True, exist_ok=True)
        write_manifest(place, manifest)
        return manifest
    difference = found.differs(manifest)
    if difference:
        raise BadInput(f"{place}: holds activations of {difference}; give a new directory, or delete this one")
    return found


def _state(place: Path, manifest: Manifest) -> Summary:
    """The summary of the shards that are done."""
    if manifest.done == 0:
        return nothing_seen(_units(manifest.sites), manifest.wanted.top, manifest.wanted.kept)
    file = state_file(place, manifest.done)
    try:
        return read_state(file, manifest.wanted.seed)
    except (pa.ArrowInvalid, FileNotFoundError, KeyError, TypeError) as error:
        raise BadInput(f"{file}: damaged or missing; delete {place} and capture anew") from error


def _kept(place: Path, manifest: Manifest, running: Summary, rows: Sequence[Rows]) -> Manifest:
    """Put another shard on disk; the manifest counts it last."""
    if len(rows[0]):
        write_sample(sample_file(place, manifest.done), rows)
    more = manifest.model_copy(update={"done": manifest.done + 1})
    write_state(state_file(place, more.done), running)
    write_manifest(place, more)
    state_file(place, manifest.done).unlink(missing_ok=True)
    return more


def _write_tables(place: Path, manifest: Manifest, running: Summary) -> None:
    wanted, context = manifest.wanted, manifest.context
    places = sampled_places(manifest.windows, context, wanted)
    shards = np.unique(places // (context * wanted.shard))
    files = [sample_file(place, int(shard)) for shard in shards]
    for number, (site, seen) in enumerate(zip(manifest.sites, _parts(running, manifest.sites), strict=True)):
        sample = read_sample(files, number)
        write_groups(units_file(place, number), [units_table(site, seen, sample)])
        table = contexts_table(site, number, seen, sample, places, context, wanted)
        write_groups(contexts_file(place, number), [table])


def _remove(place: Path, *patterns: str) -> None:
    for pattern in patterns:
        for file in place.glob(pattern):
            file.unlink()
