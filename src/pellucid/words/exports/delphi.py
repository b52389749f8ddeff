"""Records of units as EleutherAI's delphi leaves its own results: a text file a latent for label and for score.

The layout is that of delphi's pipeline (`delphi/__main__.py` at commit 078745e, scorers at 6029fd7 and 14da537):

    explanations/MODULE_latentN.txt       the explanation, a JSON string
    scores/simulation/MODULE_latentN.txt  a list with one entry over all contexts: `ev_correlation_score` (here r on
        text that neither unit nor label was made from, not on these contexts), and each context with its tokens, true
        and predicted activations
    scores/detection/MODULE_latentN.txt   each context with what it is and what the label says of it: "active" where it
        predicts more than half of its largest value in any context; none for heads, which look somewhere from every
        place

A unit without a label has no files, as in delphi. Text is kept as it is, but for lone surrogates (see `texts.plain`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.errors import BadInput
from pellucid.words.described import DescribedUnit, Stretch
from pellucid.words.exports.texts import line_of, plain, short

FORBIDDEN = frozenset('/\\:*?"<>|')
"""What file names had better not hold; written as "--"."""


def write_delphi(units: Iterable[DescribedUnit], directory: Path) -> int:
    """Write the files of all units that have a label; says how many have.

    Raises:
        BadInput: the directory cannot be written.
    """
    count = 0
    try:
        for unit in units:
            if unit.label is None:
                continue
            _write(directory / "explanations", unit, plain(unit.label))
            if not math.isnan(unit.r):
                _write(directory / "scores" / "simulation", unit, [_simulated(unit)])
            predicting = [context for context in unit.contexts if context.predicted and context.query is None]
            if predicting:
                level = max(max(context.predicted, default=0.0) for context in predicting) / 2
                _write(directory / "scores" / "detection", unit, [_detected(one, level) for one in predicting])
            count += 1
    except OSError as error:
        raise BadInput(f"{directory}: cannot be written ({error.strerror}); choose another directory") from error
    return count


def latent_name(unit: DescribedUnit) -> str:
    """The name that delphi gives a latent: module, "_latent", index; fit for a file name."""
    return f"{file_name(unit.site)}_latent{unit.index}"


def file_name(text: str) -> str:
    """The text without what file names had better not hold, and not a step up or hidden."""
    name = "".join("--" if char in FORBIDDEN or not char.isprintable() else char for char in plain(text))
    return f"--{name[1:]}" if name.startswith(".") else name


def _write(folder: Path, unit: DescribedUnit, value: Any) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{latent_name(unit)}.txt").write_text(line_of(value), encoding="ascii")


def _simulated(unit: DescribedUnit) -> dict[str, Any]:
    return {
        "distance": 0,
        "ev_correlation_score": unit.r,
        "rsquared_score": 0.0,
        "absolute_dev_explained_score": 0.0,
        "scored_sequence_simulations": [_sequence(context) for context in unit.contexts if context.predicted],
    }


def _sequence(context: Stretch) -> dict[str, Any]:
    real, said = np.array(context.activations), np.array(context.predicted)
    varies = len(real) > 1 and real.std() > 0 and said.std() > 0
    return {
        "tokens": [plain(piece) for piece in context.pieces],
        "true_activations": [short(value) for value in context.activations],
        "predicted_activations": [short(value) for value in context.predicted],
        "ev_correlation_score": float(np.corrcoef(real, said)[0, 1]) if varies else "nan",
        "rsquared_score": 0,
        "absolute_dev_explained_score": 0,
    }


def _detected(context: Stretch, level: float) -> dict[str, Any]:
    active, said = max(context.activations, default=0.0) > 0, max(context.predicted, default=0.0) > level
    return {
        "str_tokens": [plain(piece) for piece in context.pieces],
        "activations": [short(value) for value in context.activations],
        "distance": 1 if active else -1,
        "activating": active,
        "prediction": said,
        "probability": None,
        "correct": said == active,
    }
