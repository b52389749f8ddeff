"""Latents of stories15M for the benchmark of labels: activations on *describe* and *verify*, and their label trees.

Transcoders of its MLPs are FUNCTION.safetensors in a folder that is given, else they are trained for a few epochs and
kept beside the latents.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import stories
from shared import say

import pellucid
from pellucid.data.corpus import Corpus, split_corpus
from pellucid.dictionaries.dictionary import Dictionary
from pellucid.dictionaries.pairs import Pairs, capture_pairs
from pellucid.dictionaries.training import Recipe, train_dictionary
from pellucid.ir.program import Program
from pellucid.modules.partition import partition
from pellucid.modules.structure import structure
from pellucid.words.labels.activations import activations_of
from pellucid.words.labels.grow import grow
from pellucid.words.labels.lexicon import survey

WINDOWS, SEED = 384, 0
EPOCHS = 3
SEEN, JUDGED = 8, 5
"""A latent is drawn from those that are active in so many windows of *describe* and of *verify*."""

Active = Float[np.ndarray, "windows context units"]


def prepare(folder: Path, count: int, given: Path | None = None) -> str:
    """Write `latents.npz` and what belongs to it, equally many latents of each layer; says what they are."""
    if (folder / "latents.npz").is_file():
        return (folder / "kind.txt").read_text()
    folder.mkdir(parents=True, exist_ok=True)
    parts = split_corpus(stories.corpus(WINDOWS, SEED), SEED)
    program = traced(parts.fit)
    functions = [name for name, function in program.functions.items() if function.kind == "mlp"]
    lexicon = survey(parts.fit)
    arrays: dict[str, list[np.ndarray]] = {name: [] for name in ("describe", "verify", "tree describe", "tree verify")}
    names, trees, seconds = list[str](), list[str](), 0.0
    pairs = {name: capture_pairs(program, functions, getattr(parts, name)) for name in ("fit", "describe", "verify")}
    for number, function in enumerate(functions):
        dictionary = dictionary_of(function, pairs["fit"][function], given or folder.parent)
        acts = {name: active(dictionary, found[function], getattr(parts, name)) for name, found in pairs.items()}
        chosen = drawn(acts, len(range(number, count, len(functions))), SEED + number)
        few = {name: values[:, :, chosen] for name, values in acts.items()}
        table = activations_of(few["fit"].reshape(-1, len(chosen)))
        if number == 0:
            grow(parts.fit.ids, table, lexicon)
        started = time.perf_counter()
        labels = grow(parts.fit.ids, table, lexicon, site=function)
        seconds += time.perf_counter() - started
        names += [f"{function}.dictionary:latents[{unit}]" for unit in chosen]
        trees += [str(label) for label in labels.labels]
        for name in ("describe", "verify"):
            arrays[name] += list(np.moveaxis(few[name], 2, 0))
            arrays[f"tree {name}"] += list(labels.predict(getattr(parts, name).ids))
        say(f"{function}: {len(chosen)} latents, label trees grown")
    stacked = {name: np.stack(rows).astype(np.float32) for name, rows in arrays.items()}
    (folder / "pieces.json").write_text(json.dumps(list(parts.fit.pieces)))
    (folder / "trees.json").write_text(json.dumps({"labels": trees, "seconds": seconds}))
    trained = "given" if given else f"trained for {EPOCHS} epochs"
    kind = f"of transcoders of its MLPs, {dictionary.latents} latents, {trained}"
    (folder / "kind.txt").write_text(kind)
    part = folder / "part.npz"
    np.savez(part, names=np.array(names), describe_ids=parts.describe.ids, verify_ids=parts.verify.ids, **stacked)
    part.replace(folder / "latents.npz")
    return kind


def traced(corpus: Corpus) -> Program:
    """stories15M as a program of functions."""
    graph = pellucid.trace(stories.network(), (next(corpus.batches(2)),))
    return structure(graph, partition(graph))


def dictionary_of(function: str, pairs: Pairs, folder: Path) -> Dictionary:
    """The transcoder of an MLP: given, kept, or trained for a few epochs."""
    file = folder / f"{function}.safetensors"
    if not file.is_file():
        train_dictionary(pairs, Recipe(epochs=EPOCHS, seed=SEED)).save(file)
        say(f"{function}: transcoder trained")
    return Dictionary.load(file)


def active(dictionary: Dictionary, pairs: Pairs, corpus: Corpus) -> Active:
    """The latents at every position, zero at the first."""
    inputs, _ = pairs.rows(slice(None))
    windows, context = corpus.ids.shape
    found = np.zeros((windows, context, dictionary.latents), np.float32)
    with torch.no_grad():
        found[:, 1:] = dictionary.encode(inputs).reshape(windows, context - 1, -1).numpy()
    return found


def drawn(acts: dict[str, Active], count: int, seed: int) -> np.ndarray:
    """So many units that are active in enough windows, at random."""
    enough = np.ones(acts["describe"].shape[2], dtype=bool)
    for name, least in (("describe", SEEN), ("verify", JUDGED)):
        enough &= (acts[name] > 0).any(axis=1).sum(axis=0) >= least
    usable = np.flatnonzero(enough)
    return np.sort(np.random.default_rng(seed).permutation(usable)[:count])
