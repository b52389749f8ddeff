"""From rules of heads to records of heads: the rule in words, its score on *verify*, places where the head looks.

The label says what the rule looks at (`sentences`, over *describe* windows) and the numbers of the rule that decide
most. The score is that of the whole rule (`correlation`). A context is what a head sees from one position: the weights
that it puts on the tokens up to there, and what its rule says. Top contexts are, of the windows in which the head puts
most weight on one key, the place where it does, one a window; keys that say nothing (`looking.telling`) do not count.
Random ones are drawn from all places, one a window. Both begin a little before the key that has most weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int

from pellucid.data.corpus import Corpus, CorpusParts
from pellucid.errors import BadInput
from pellucid.ir.program import Program
from pellucid.ir.units import Unit
from pellucid.words.described import DescribedUnit, How, Stretch
from pellucid.words.heads.aspects import shares_of
from pellucid.words.heads.circuits import head_links, head_sites
from pellucid.words.heads.correlation import correlation
from pellucid.words.heads.looking import looks_of, ruled_looks, telling
from pellucid.words.heads.rule import HeadRule, Heads
from pellucid.words.heads.sentences import describe_heads, rule_lines

TOP, RANDOM = 8, 3
BEFORE, AROUND = 24, 4
"""Tokens that are shown before the one that looks, and before the one it looks at most."""

FAINT = 0.01
"""Weights below this are written as 0."""

LINES, LONGEST = 6, 900
"""Numbers of a rule that its label shows, and the characters that a label may have."""

READ = 4
"""Windows that say how often the features of a rule occur."""

SHARED = 16
"""Positions of a window that shares of weight are taken over."""


@dataclass(frozen=True, eq=False)
class _Seen:
    """What heads do from one position of each window, on keys that tell something.

    Attributes:
        queries: the position.
        rows: how much weight the head puts on each key from there.
    """

    queries: Int[np.ndarray, "windows heads"]
    rows: Float[np.ndarray, "windows heads context"]

    def of(self, head: int, windows: Sequence[int], how: How) -> list[tuple[How, int, int, Float[np.ndarray, " key"]]]:
        """The places of one head in some windows: how they were chosen, window, position, weights."""
        return [(how, window, int(self.queries[window, head]), self.rows[window, head]) for window in windows]


def head_units(
    program: Program,
    rules: Sequence[HeadRule],
    parts: CorpusParts,
    *,
    top: int = TOP,
    random: int = RANDOM,
    seed: int = 0,
) -> Iterator[DescribedUnit]:
    """The heads of a program that have rules, with labels, scores, contexts and links, in the order of the program.

    Args:
        rules: of heads. Where the parts of heads are mixed before a function's last matrix reads them, heads cannot be
            told apart as units and get no record.
        parts: contexts are taken from *describe*, scores from *verify*.
        top: contexts in which a head looks hardest; `random` such that are drawn with `seed`.

    Raises:
        BadInput: the program takes more than ids, or a rule is of a head that it has not.
    """
    units = _named(program, rules)
    if not units:
        return
    heads = Heads.of([rule for _, rule in units])
    labels = head_labels(heads, parts.describe, seed)
    scores = correlation(program, heads, parts.verify, seed=seed)
    links = head_links(program)
    drawn_at, windows = _drawn(parts.describe, len(heads.names), random, seed)
    hardest, anywhere, density = _seen(program, heads, parts.describe, drawn_at)
    for head, (unit, rule) in enumerate(units):
        found = links.get(unit.site)
        peaks = hardest.rows[:, head].max(axis=-1)
        best = [int(window) for window in np.argsort(-peaks, kind="stable")[:top] if peaks[window] > 0]
        places = [*hardest.of(head, best, "top"), *anywhere.of(head, windows[head], "random")]
        yield DescribedUnit(
            str(unit), labels[head], "rule", float(scores.r[head]), float(scores.shuffled[head]), float(density[head]),
            _stretches(rule, parts.describe, places),
            found.incoming[unit.index] if found else (), found.outgoing[unit.index] if found else (),
        )  # fmt: skip


def head_labels(heads: Heads, corpus: Corpus, seed: int = 0) -> tuple[str, ...]:
    """What rules say, in words: a sentence on where they look, and a line for each of the numbers that tell most.

    Numbers are those that set a rule apart from what all heads look at on average; what all do would fill every label.
    Beginning tokens are no words that a head favours: the sentence has its own way to say that it looks there.

    Raises:
        BadInput: the corpus is of another vocabulary.
    """
    shares = shares_of(ruled_looks(heads, corpus, SHARED, seed), heads.grammar, corpus.pieces)
    if corpus.beginning is not None:
        shares.tokens[:, corpus.beginning] = 0.0
    texts = describe_heads(heads.names, corpus.pieces, shares, shares)
    ids = corpus.ids[:READ]
    others = heads.pattern(torch.from_numpy(ids.astype(np.int64))).mean(1) if len(heads.names) > 1 else None
    return tuple(
        _bounded(text.sentence, rule_lines(rule, corpus.pieces, ids, LINES, others))
        for text, rule in zip(texts, heads.rules(), strict=True)
    )


def _bounded(sentence: str, lines: Sequence[str]) -> str:
    """As many lines as there is room for."""
    kept = sentence if len(sentence) <= LONGEST else sentence[: LONGEST - 1] + "…"
    for line in lines:
        if len(kept) + 1 + len(line) > LONGEST:
            break
        kept += f"\n{line}"
    return kept


def _named(program: Program, rules: Sequence[HeadRule]) -> list[tuple[Unit, HeadRule]]:
    by_name = {(rule.function, rule.head): rule for rule in rules}
    if len(by_name) < len(rules):
        raise BadInput("rules of heads: a head has two; give one for each")
    found = head_sites(program)
    counts = {site.function: site.units for site in found}
    for function, head in by_name:
        if function not in program.functions or head >= counts.get(function, head + 1):
            raise BadInput(f"rules of heads: there is no head {head} of {function}; use the rules of this program")
    units = [site[index] for site in found for index in range(site.units)]
    return [(unit, by_name[at]) for unit in units if (at := (unit.site.function, unit.index)) in by_name]


def _drawn(
    corpus: Corpus, heads: int, count: int, seed: int
) -> tuple[Int[np.ndarray, "windows heads"], list[list[int]]]:
    """A position of each window for each head, and for each head some windows, all drawn."""
    generator = np.random.default_rng(seed)
    windows, context = corpus.ids.shape
    positions = generator.integers(1, context, (windows, heads))
    return positions, [generator.permutation(windows)[:count].tolist() for _ in range(heads)]


def _seen(
    program: Program, heads: Heads, corpus: Corpus, drawn_at: Int[np.ndarray, "windows heads"]
) -> tuple[_Seen, _Seen, Float[np.ndarray, " heads"]]:
    """Heads where they look hardest in each window and at a drawn position, and how often they look at what tells."""
    (windows, context), count = corpus.ids.shape, len(heads.names)
    every = np.tile(np.arange(1, context), (windows, 1))
    awake = torch.zeros(count, dtype=torch.float64)
    hardest, strongest, random = [], [], []
    for looks in looks_of(program, heads.names, corpus, every):
        keys = telling(looks, heads.grammar.beginning)[:, None]
        held = looks.real.masked_fill(~keys, 0)
        peaks = held.max(-1).values
        awake += (peaks > looks.real.masked_fill(keys, 0).max(-1).values).double().sum((0, 2))
        hardest.append(peaks.argmax(-1))
        strongest.append(_rows(held, hardest[-1]))
        random.append(_rows(held, torch.from_numpy(drawn_at[looks.start : looks.start + len(looks.ids)]) - 1))
    top = _Seen(torch.cat(hardest).numpy() + 1, torch.cat(strongest).numpy())
    return top, _Seen(drawn_at, torch.cat(random).numpy()), awake.numpy() / every.size


def _rows(
    held: Float[torch.Tensor, "windows heads query key"], at: Int[torch.Tensor, "windows heads"]
) -> Float[torch.Tensor, "windows heads key"]:
    return held.gather(2, at[..., None, None].expand(-1, -1, 1, held.shape[3]))[:, :, 0]


def _stretches(
    rule: HeadRule, corpus: Corpus, places: Sequence[tuple[How, int, int, Float[np.ndarray, " key"]]]
) -> tuple[Stretch, ...]:
    if not places:
        return ()
    ids = torch.from_numpy(corpus.ids[[window for _, window, _, _ in places]].astype(np.int64))
    queries = torch.tensor([[query] for _, _, query, _ in places])
    with torch.no_grad():
        said = Heads.of([rule]).pattern(ids, None, queries)[:, 0, 0].numpy()
    return tuple(
        _stretch(how, corpus, window, query, row, told)
        for (how, window, query, row), told in zip(places, said, strict=True)
    )


def _stretch(
    how: How,
    corpus: Corpus,
    window: int,
    query: int,
    row: Float[np.ndarray, " key"],
    said: Float[np.ndarray, " key"],
) -> Stretch:
    start = max(1, min(query - BEFORE, int(row.argmax()) - AROUND))
    span = slice(start, query + 1)
    ids: Int[np.ndarray, " shown"] = corpus.ids[window, span]
    silent = ids == (-1 if corpus.beginning is None else corpus.beginning)
    pieces = tuple(corpus.pieces[token] for token in ids.tolist())
    real, predicted = (tuple(np.where((one < FAINT) | silent, 0.0, one).tolist()) for one in (row[span], said[span]))
    return Stretch(how, window, start, pieces, real, predicted, query - start)
