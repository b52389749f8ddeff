"""Attention as rules over tokens: stories15M with where its heads look replaced by rules, everything else real.

Rules are fitted on *fit*, tuned together on *tune*, said in words by *describe*, and every figure is from *verify*.
`--rules FOLDER` keeps the rules there and takes them from there when they exist; `--terms yes` adds what each term is
worth.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from jaxtyping import Float
from shared import Absent, Outcome, Table, options, publish, say
from stories import corpus, network

import pellucid
from pellucid.data.corpus import Corpus, split_corpus
from pellucid.words.heads.aspects import shares_of
from pellucid.words.heads.capture import Captured, capture_heads
from pellucid.words.heads.fitting import FITTING, Course, continue_fit, fit_heads
from pellucid.words.heads.measures import Agreement, agreement, dealt_elsewhere, uniform, without
from pellucid.words.heads.opened import OpenedProgram, open_program
from pellucid.words.heads.rule import TERMS, Heads
from pellucid.words.heads.ruled import Ruling, only, ruling, window_losses
from pellucid.words.heads.saving import load_heads, save_heads
from pellucid.words.heads.scene import grammar_of
from pellucid.words.heads.sentences import describe_heads, rule_lines
from pellucid.words.heads.tuning import TUNING, tune_heads

WINDOWS = 384
QUERIES = 64
PROTOTYPE = 2.02
SHORT = Course(steps=60, windows=6, rate=0.1)
FEW = 16
AGAIN = Course(steps=30, windows=4, rate=0.03)
BAR = f"all patterns ruled and tuned, the rest real: cross-entropy below the prototype's {PROTOTYPE}; controls above"


def main() -> int:
    given = options(__doc__, ("--rules", "a folder to keep the rules in"), ("--terms", "yes: what each term is worth"))
    started, outcome = time.monotonic(), Outcome()
    torch.set_num_threads(1)
    try:
        texts, model = corpus(WINDOWS), network()
    except Absent as absent:
        say(f"skipped: {absent}")
        return 0
    parts = split_corpus(texts)
    graph = pellucid.trace(model, (), {"input_ids": torch.arange(24).reshape(2, 12)})
    program = pellucid.structure(graph, pellucid.partition(graph))
    seen = capture_heads(program, parts.fit, QUERIES)
    held = capture_heads(program, parts.verify, QUERIES)
    told = capture_heads(program, parts.describe, QUERIES)
    folder = Path(given.rules) if given.rules else None
    fitted = _kept(folder, "fitted", lambda: fit_heads(seen, grammar_of(parts.fit)))
    tuned = _kept(folder, "tuned", lambda: tune_heads(program, fitted, parts.tune))
    distance = fit_heads(seen, fitted.grammar, SHORT, ("distance",))
    opened = open_program(program)
    _losses(outcome, opened, parts.verify, fitted, tuned, distance)
    _heads(outcome, agreement(fitted, held), agreement(tuned, held), fitted, distance, held)
    if given.terms == "yes":
        _terms(outcome, opened, parts.verify, seen, held, fitted)
    shown = shares_of(told, fitted.grammar, texts.pieces), shares_of(held, fitted.grammar, texts.pieces)
    rows = [
        (text.head.replace("model.layers.", ""), text.name or "taken back", text.sentence)
        for text in describe_heads(fitted.names, texts.pieces, *shown)
    ]
    outcome.tables.append(
        Table("What each head was shown to do (shares on verify):", ("head", "name", "sentence"), rows)
    )
    lines = rule_lines(fitted.rules()[2], texts.pieces, parts.describe.ids[:8], 6)
    numbers = "; ".join(lines)
    outcome.notes.append(f"The strongest numbers of the rule of {fitted.rules()[2].name}: {numbers}")
    outcome.notes.append(_setting(parts.fit, parts.tune, parts.verify, held, fitted))
    return publish("words/heads", "Words: attention heads as rules over tokens", BAR, outcome, started, given.write)


def _kept(folder: Path | None, name: str, make: Callable[[], Heads]) -> Heads:
    if folder is not None and (folder / name).is_dir():
        return Heads.of(load_heads(folder / name))
    started = time.process_time()
    heads = make()
    say(f"{name}: {time.process_time() - started:.0f} s of CPU")
    if folder is not None:
        save_heads(heads.rules(), folder / name)
    return heads


def _setting(fit: Corpus, tune: Corpus, verify: Corpus, held: Captured, heads: Heads) -> str:
    bits = np.mean([rule.bits for rule in heads.rules()])
    numbers = sum(int((table != 0).sum()) for table in heads.tables.values()) / len(heads.names)
    return (
        f"{WINDOWS} windows of 256 tokens that the network wrote, corpus and split seed 0: {len(fit)} fit, {len(tune)}"
        f" tune, {len(verify)} verify; patterns at {QUERIES} queries a window ({held.queries.size:,} on verify); fitted"
        f" in {FITTING.steps} steps, tuned in {TUNING.steps}; {numbers:,.0f} numbers a head ({bits / 8000:.0f} kB with"
        " its clusters). Intervals: 1.96 standard errors over windows."
    )


def _loss(opened: OpenedProgram, verify: Corpus, rule: Ruling | None, name: str) -> Float[np.ndarray, " windows"]:
    losses = window_losses(opened, verify, rule)
    say(f"{name}: {losses.mean():.3f} nats")
    return losses


def _with_interval(losses: Float[np.ndarray, " windows"]) -> str:
    return f"{losses.mean():.3f} ± {1.96 * losses.std(ddof=1) / len(losses) ** 0.5:.3f}"


def _losses(
    outcome: Outcome, opened: OpenedProgram, verify: Corpus, fitted: Heads, tuned: Heads, distance: Heads
) -> None:
    real = _loss(opened, verify, None, "network")
    before = _loss(opened, verify, ruling(fitted), "fitted, all")
    after = _loss(opened, verify, ruling(tuned), "tuned, all")
    outcome.require(bool(after.mean() < PROTOTYPE), f"tuned cross-entropy {after.mean():.2f} below {PROTOTYPE}")
    controls = {
        "all, rules dealt to other heads": dealt_elsewhere(fitted),
        "all, every key alike": uniform(fitted),
        "all, distance only": distance,
    }
    last: list[tuple[str, ...]] = []
    for name, heads in controls.items():
        found = _loss(opened, verify, ruling(heads), name)
        last.append((name, _with_interval(found), "", f"{(found - real).mean():+.3f}"))
        outcome.require(bool(found.mean() > before.mean()), f"the control {name!r} is worse")
    rows: list[tuple[str, ...]] = [("none (the network)", _with_interval(real), _with_interval(real), "")]
    for function in opened.functions:
        one = [
            _loss(opened, verify, only((function,), ruling(heads)), f"{function}, {name}")
            for name, heads in (("fitted", fitted), ("tuned", tuned))
        ]
        rows.append((function, *map(_with_interval, one), f"{(one[1] - real).mean():+.3f}"))
    rows.append(("all", _with_interval(before), _with_interval(after), f"{(after - real).mean():+.3f}"))
    rows += last
    columns = ("patterns ruled", "fitted", "tuned", "more than the network")
    outcome.tables.append(Table("Cross-entropy of the next token in nats, on verify:", columns, rows))


def _heads(
    outcome: Outcome, before: Agreement, after: Agreement, fitted: Heads, distance: Heads, held: Captured
) -> None:
    found = {
        "fitted": before,
        "tuned": after,
        "dealt to other heads": agreement(dealt_elsewhere(fitted), held),
        "distance only": agreement(distance, held),
        "every key alike": agreement(uniform(fitted), held),
    }
    rows = [
        (name, *(f"{cut(one.divergence):.2f}" for cut in CUTS), *(f"{cut(one.top):.2f}" for cut in CUTS))
        for name, one in found.items()
    ]
    columns = ("rules", *(f"KL {cut}" for cut in NAMES), *(f"same top key {cut}" for cut in NAMES))
    text = f"Where the {len(before.top)} heads look, rule beside network, {before.queries:,} queries each:"
    outcome.tables.append(Table(text, columns, rows))
    index = fitted.by_function
    layers = [
        (
            name,
            " ".join(f"{before.divergence[i]:.2f}" for i in heads),
            " ".join(f"{before.top[i]:.2f}" for i in heads),
            " ".join(f"{after.divergence[i]:.2f}" for i in heads),
            " ".join(f"{after.top[i]:.2f}" for i in heads),
        )
        for name, heads in index.items()
    ]
    per_head = ("function", "KL of each head, fitted", "same top key", "KL, tuned", "same top key")
    outcome.tables.append(Table("The same by head:", per_head, layers))


CUTS = (np.mean, np.min, np.max)
NAMES = ("mean", "least", "most")


def _terms(
    outcome: Outcome, opened: OpenedProgram, verify: Corpus, seen: Captured, held: Captured, fitted: Heads
) -> None:
    rows = []
    few = verify.rows(slice(0, FEW))
    full = agreement(fitted, held).divergence.mean()
    on = continue_fit(fitted, seen, AGAIN)
    base, loss = agreement(on, held).divergence.mean(), _loss(opened, few, ruling(on), "full rules again").mean()
    for term in TERMS:
        less = without(fitted, [term])
        again = continue_fit(less, seen, AGAIN, [other for other in TERMS if other != term])
        rows.append(
            (
                term,
                f"{agreement(less, held).divergence.mean() - full:+.3f}",
                f"{agreement(again, held).divergence.mean() - base:+.3f}",
                f"{_loss(opened, few, ruling(again), f'without {term}').mean() - loss:+.3f}",
            )
        )
    columns = ("term", "KL with it at 0", "KL, the rest fitted again", "cross-entropy, the rest fitted again")
    text = (
        f"What each term is worth: the change when it is left out of the fitted rules (KL {full:.3f}, {loss:.3f} nats):"
    )
    outcome.tables.append(Table(text, columns, rows))


if __name__ == "__main__":
    raise SystemExit(main())
