"""Latents of stories15M for the benchmark of labels: activations on *describe* and *verify*, and their label trees."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from jaxtyping import Float

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import stories
from shared import say

import pellucid
from pellucid.data.activations.dense import dense
from pellucid.data.corpus import Corpus, split_corpus
from pellucid.ir.program import Program
from pellucid.ir.units import Site, sites
from pellucid.modules.partition import partition
from pellucid.modules.structure import structure
from pellucid.words.explain.evidence import fired
from pellucid.words.labels.activations import activations_of
from pellucid.words.labels.grow import grow
from pellucid.words.labels.lexicon import survey

WINDOWS, SEED = 384, 0
SEEN, JUDGED = 8, 5
"""A latent is drawn from those that are active in so many windows of *describe* and of *verify*."""


def prepare(folder: Path, count: int) -> str:
    """Write `latents.npz` and `pieces.json` for so many latents, an equal number of each layer; says what they are."""
    if (folder / "latents.npz").is_file():
        return (folder / "kind.txt").read_text()
    parts = split_corpus(stories.corpus(WINDOWS, SEED), SEED)
    program = traced(parts.fit)
    kind, found = units_of(program)
    arrays: dict[str, list[np.ndarray]] = {name: [] for name in ("describe", "verify", "tree describe", "tree verify")}
    names: list[str] = []
    trees: list[str] = []
    seconds = 0.0
    for number, site in enumerate(found):
        share = len(range(number, count, len(found)))
        acts = {name: active(program, getattr(parts, name), site) for name in ("fit", "describe", "verify")}
        chosen = drawn(acts, share, SEED + number)
        few = {name: values[:, :, chosen] for name, values in acts.items()}
        lexicon = survey(parts.fit)
        table = activations_of(few["fit"].reshape(-1, len(chosen)))
        if number == 0:
            grow(parts.fit.ids, table, lexicon)
        started = time.perf_counter()
        labels = grow(parts.fit.ids, table, lexicon, site=str(site))
        seconds += time.perf_counter() - started
        names += [str(site[int(unit)]) for unit in chosen]
        trees += [str(label) for label in labels.labels]
        for name in ("describe", "verify"):
            arrays[name] += list(np.moveaxis(few[name], 2, 0))
            arrays[f"tree {name}"] += list(labels.predict(getattr(parts, name).ids))
        say(f"{site}: {len(chosen)} units, label trees grown")
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / "part.npz"
    stacked = {name: np.stack(rows).astype(np.float32) for name, rows in arrays.items()}
    np.savez(part, names=np.array(names), describe_ids=parts.describe.ids, verify_ids=parts.verify.ids, **stacked)
    (folder / "pieces.json").write_text(json.dumps(list(parts.fit.pieces)))
    (folder / "trees.json").write_text(json.dumps({"labels": trees, "seconds": seconds}))
    (folder / "kind.txt").write_text(kind)
    part.replace(folder / "latents.npz")
    return kind


def traced(corpus: Corpus) -> Program:
    """stories15M as a program of functions."""
    ids = (next(corpus.batches(2)),)
    network = stories.network()
    graph = pellucid.trace(network, ids)
    return structure(graph, partition(graph))


def units_of(program: Program) -> tuple[str, tuple[Site, ...]]:
    """The sites that units are drawn from, and what they are."""
    return "MLP neurons, active on the 5 % of tokens at their longer end", sites(program, "mlp")


def active(program: Program, corpus: Corpus, site: Site) -> Float[np.ndarray, "windows context units"]:
    """Activations of a site, position 0 set to zero; of neurons what lies beyond their quantile."""
    ((_, values),) = dense(program, corpus, [site])
    found = np.stack([fired(values[:, :, unit]) for unit in range(site.units)], axis=2).astype(np.float32)
    found[:, 0] = 0.0
    return found


def drawn(acts: dict[str, Float[np.ndarray, "windows context units"]], count: int, seed: int) -> np.ndarray:
    """So many units that are active in enough windows, at random."""
    enough = np.ones(acts["describe"].shape[2], dtype=bool)
    for name, least in (("describe", SEEN), ("verify", JUDGED)):
        enough &= (acts[name] > 0).any(axis=1).sum(axis=0) >= least
    usable = np.flatnonzero(enough)
    return np.sort(np.random.default_rng(seed).permutation(usable)[:count])
