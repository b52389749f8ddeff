"""Rules of heads that are known, and what would be captured from heads that follow them."""

import numpy as np
import torch

from pellucid.words.heads.capture import Captured, TokenMeans
from pellucid.words.heads.rule import DEALT, HeadRule, Heads, table_shapes
from pellucid.words.heads.scene import RELATIONS, Grammar

PIECES = ("<s>", ".", " Tim", " Ann", " saw", " ran", " the", " dog", " cat", "\n", '"', " a")
GRAMMAR = Grammar(len(PIECES), 4, ends=(1, 9), listed=(1, 6), offsets=(0, 1, 2, 3, 6, 12), beginning=0)


def windows(count: int, context: int = 24, seed: int = 0) -> np.ndarray:
    ids = np.random.default_rng(seed).integers(1, len(PIECES), (count, context)).astype(np.int32)
    ids[:, 0] = 0
    return ids


def rule(head: int = 0, seed: int | None = None, function: str = "f", rests: bool = False, **entries) -> HeadRule:
    """Tables of zeros (or random ones) with some entries set: table={(row, column): value}."""
    rng = np.random.default_rng(seed)
    shapes = table_shapes(GRAMMAR)
    tables = {
        name: (rng.normal(size=s) if seed is not None else np.zeros(s)).astype("f4") for name, s in shapes.items()
    }
    for name, values in entries.items():
        for (row, column), value in values.items():
            tables[name][row, column] = value
    clusters = np.tile(np.arange(GRAMMAR.vocabulary) % GRAMMAR.clusters, (len(DEALT), 1)).astype(np.uint8)
    return HeadRule(function, head, GRAMMAR, clusters, tables, rests)


def related(name: str, strength: float = 20.0) -> dict[str, dict[tuple[int, int], float]]:
    return {"relations": {(0, RELATIONS.index(name)): strength}}


def at_distance(bucket: int, strength: float = 20.0) -> dict[str, dict[tuple[int, int], float]]:
    return {"query_offsets": {(0, bucket): strength}}


def captured(rules: list[HeadRule], ids: np.ndarray, queries: int = 8) -> Captured:
    """What capturing heads that follow these rules would give, with clusters to be found from token means."""
    heads = Heads.of(rules)
    rng = np.random.default_rng(0)
    every = np.tile(np.arange(1, ids.shape[1]), (len(ids), 1))
    rows = np.sort(rng.permuted(every, axis=1)[:, :queries], axis=1)
    pattern = heads.pattern(torch.from_numpy(ids.astype(np.int64)), None, torch.from_numpy(rows)).numpy()
    patterns = {name: pattern[:, list(index)].astype(np.float16) for name, index in heads.by_function.items()}
    return Captured(ids, rows, patterns, {name: _means(rules, index) for name, index in heads.by_function.items()})


def _means(rules: list[HeadRule], index: tuple[int, ...]) -> tuple[TokenMeans, ...]:
    """Means that lie at one corner for each true cluster."""
    tokens = np.arange(GRAMMAR.vocabulary)
    corners = np.eye(GRAMMAR.clusters)
    spread = np.stack([np.eye(GRAMMAR.clusters)] * len(index))
    return tuple(
        TokenMeans(tokens, np.full(len(tokens), 50), np.stack([corners[rules[i].clusters[d]] for i in index]), spread)
        for d in range(len(DEALT))
    )
