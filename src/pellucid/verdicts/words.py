"""What words are worth, as the judge sees it: the loss of the network with parts run by the words of the emitted file.

Of each part that has words, and of the whole: recovered = (L_ablated - L_words) / (L_ablated - L_network), where L is
the next-token cross-entropy and ablated means that the part gives its mean. Words run in the process of program.py, the
rest of the network in the judge's. Intervals are bootstraps over samples. The control is the same words told of another
sample's text. A verdict passes when all of the interval lies above zero and the control below it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

from pellucid.errors import CannotRun
from pellucid.ir.interpret import Replacement, Values, run_functions
from pellucid.ir.notes import Verdict
from pellucid.verdicts.case import Case
from pellucid.verdicts.controls import rolled
from pellucid.verdicts.verdict import WHOLE
from pellucid.words.reading.install import parts_of
from pellucid.words.reading.measure import recovered

MEASURE, UNIT, BAR = "loss recovered", "of what ablation by the mean costs", "all of the interval above 0"
SAMPLES, TOGETHER = 32, 4
"""Samples that every part is judged on, and how many of them run at a time."""

Ids = Int[torch.Tensor, "samples seq"]
Losses = Float[np.ndarray, " losses"]


def judge_words(case: Case) -> list[Verdict]:
    """The verdicts on all words of a program; none where it has none."""
    parts = parts_of(case.program)
    if not parts:
        return []
    batches = _batches(case)
    case.say("words: the network itself")
    averages = _means(case, parts, batches)
    real = _losses(case, batches, {})
    found = []
    for name, own in {**parts, WHOLE: ()}.items():
        case.say(f"words: {name}")
        ablated = _losses(case, batches, {p: averages[p] for p in (parts if name == WHOLE else (name,))})
        try:
            said, wrong = (_by_words(case, batches, own, name == WHOLE, told) for told in (_same, _other))
        except CannotRun as error:
            found.append(_failed(name, len(real), str(error)))
            continue
        found.append(_verdict(name, real, ablated, said, wrong, case.seed))
    return found


def on_all_words(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Those on all words of a program together: one, or none."""
    return [one for one in verdicts if (one.part, one.reading) == (WHOLE, "words")]


def _batches(case: Case) -> list[Ids]:
    inputs = case.part_inputs.take(SAMPLES, case.seed)
    return [part for values in case.runs(inputs) for part in values[0].split(TOGETHER)]


def _same(values: Values) -> Values:
    return values


def _other(values: Values) -> Values:
    """The same values with the ids of another sample; of a single sample, in another order."""
    return [rolled([value])[0] if _is_ids(value) else value for value in values]


def _is_ids(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype == torch.int64 and value.ndim == 2


def _by_words(
    case: Case, batches: Sequence[Ids], own: Sequence[str], whole: bool, told: Callable[[Values], Values]
) -> Losses:
    """The losses with some functions by the words of the emitted file, which are told the text by `told`."""

    def emitted(name: str) -> Replacement:
        return lambda values: case.emitted.run(name, "words", told(values))

    if not whole:
        return _losses(case, batches, {name: emitted(name) for name in own})
    return np.concatenate([_loss(case.emitted.run_whole("words", told([ids]))[0], ids) for ids in batches])


def _losses(case: Case, batches: Sequence[Ids], instead: Mapping[str, Replacement]) -> Losses:
    return np.concatenate([_loss(run_functions(case.program, [i], "weights", instead)[0], i) for i in batches])


def _loss(logits: Float[torch.Tensor, "samples seq vocabulary"], ids: Ids) -> Losses:
    """Nats a token of each sample, the token that begins it and the one after that left out."""
    first = min(2, ids.shape[1] - 1)
    scored, wanted = logits[:, first - 1 : -1].float(), ids[:, first:, None]
    lost = scored.logsumexp(-1) - scored.gather(-1, wanted)[..., 0]
    return np.asarray(lost.double().mean(1).numpy())


def _means(case: Case, parts: Mapping[str, Any], batches: Sequence[Ids]) -> Mapping[str, Replacement]:
    """Each part as the constant that it gives on average, the first position apart."""
    sums: dict[str, list[torch.Tensor]] = {name: [] for name in parts}

    def watch(name: str, _: Values, outputs: Values) -> None:
        if name in sums:
            sums[name].append(torch.stack([outputs[0][:, 0].mean(0), outputs[0][:, 1:].mean((0, 1))]))

    for ids in batches:
        run_functions(case.program, [ids], "weights", watch=watch)

    def constant(pair: torch.Tensor) -> Replacement:
        def given(values: Values) -> Values:
            shape = values[0].shape[:2]
            return (torch.where(torch.arange(shape[1])[:, None] == 0, pair[0], pair[1]).expand(*shape, -1),)

        return given

    return {name: constant(torch.stack(found).mean(0)) for name, found in sums.items()}


def _verdict(name: str, real: Losses, ablated: Losses, said: Losses, wrong: Losses, seed: int) -> Verdict:
    found, control = (recovered(real, losses, ablated, seed) for losses in (said, wrong))
    nats = ", ".join(
        f"{told} {losses.mean():.3f}"
        for told, losses in (("network", real), ("on words", said), ("ablated", ablated), ("told another text", wrong))
    )
    return Verdict(
        part=name,
        reading="words",
        measure=MEASURE,
        value=found.value,
        unit=UNIT,
        interval=(found.low, found.high),
        inputs=len(real),
        kind="sampled",
        control=control.value,
        passed=bool(found.low > 0 and control.value < found.low),
        bar=BAR,
        detail=f"nats a token: {nats}; control: told of another sample's text",
    )


def _failed(name: str, count: int, cause: str) -> Verdict:
    return Verdict(name, "words", MEASURE, 0.0, UNIT, (0.0, 0.0), count, "sampled", 0.0, False, BAR, cause)
