"""Labels by a language model: evidence of latents from a described program goes to an endpoint, labels come back.

capture → evidence → cost → ask → explanations.jsonl

The store of activations is kept in the folder `words` of the description, replies in a folder beside it: an endpoint
is tried before anything else is begun. So a run that was stopped goes on where it was, and asks nothing twice.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path

import numpy as np

from pellucid.data.activations.capture import capture
from pellucid.data.activations.store import Store
from pellucid.data.corpus import Corpus, split_corpus
from pellucid.describing import FOLDER
from pellucid.errors import BadInput
from pellucid.ir.directory import replaced, writing
from pellucid.ir.program import Program
from pellucid.ir.units import Unit, sites
from pellucid.words.explain.asking import Asker
from pellucid.words.explain.endpoint import endpoint_from_environment
from pellucid.words.explain.explaining import Explanation, cost_of, explain, explain_questions
from pellucid.words.explain.stored import stored_evidence

EXPLANATIONS = "explanations.jsonl"


def labeller_at(address: str, model: str | None, output: str | PathLike[str], max_calls: int | None = None) -> Asker:
    """A labeller that has answered one small question; its replies are kept in a folder beside the description.

    Raises:
        BadInput: it is down, refuses the key, or does not know the model.
    """
    folder = Path(output)
    return Asker.open(
        endpoint_from_environment(address, model), folder.with_name(f"{folder.name}.replies"), max_calls=max_calls
    )


def explain_latents(
    program: Program,
    corpus: Corpus,
    output: str | PathLike[str],
    asker: Asker,
    *,
    count: int = 60,
    seed: int = 0,
    progress: Callable[[str], None] | None = None,
) -> tuple[Explanation, ...]:
    """Ask an endpoint what latents of a described program stand for.

    Args:
        program: what `describe` returned.
        corpus: the corpus it was described with; contexts come from its *describe* windows.
        output: the directory of the description.
        asker: an endpoint that has answered, with its cap on calls.
        count: latents, drawn among those that are active.
        seed: of the split and of the draw.

    Raises:
        BadInput: the program has no dictionaries, or fewer latents are active.
    """
    say = progress or (lambda stage: None)
    place = Path(output) / FOLDER
    shown = split_corpus(corpus, seed).describe
    say("capture: what latents do on the windows that are shown")
    store = capture(program, shown, sites(program, "latents"), place / "activations")
    units = _drawn(store, program, count, seed)
    evidence = list(stored_evidence(program, shown, store, units))
    say(f"ask: {cost_of(asker, explain_questions(evidence))}")
    found = explain(asker, evidence)
    with writing(output), replaced(place / EXPLANATIONS) as scratch:
        scratch.write_text("".join(json.dumps(dataclasses.asdict(one)) + "\n" for one in found), encoding="utf-8")
    return found


def _drawn(store: Store, program: Program, count: int, seed: int) -> Sequence[Unit]:
    """Some of the latents that are active at all, in order."""
    active = [
        site[int(index)] for site in sites(program, "latents") for index in np.flatnonzero(store.moments(site).active)
    ]
    if len(active) < count:
        raise BadInput(
            f"latents: {count} wanted, {len(active)} are active on this text; ask for fewer or give more text"
        )
    chosen = np.random.default_rng(seed).choice(len(active), count, replace=False)
    return [active[i] for i in np.sort(chosen)]
