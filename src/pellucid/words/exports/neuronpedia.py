"""Records of units as Neuronpedia's exports, the folders its own admin panel imports.

The form is version 1 ("v1/") of the exports bucket: the columns that `export-data.py` writes (read at commit 1a80fe9)
and the tables of `schema.prisma` (commit 008d504):

    v1/config/*.jsonl                           what explanations and scores are made by
    v1/MODEL/SOURCE/{model,release,source,sourceset}.jsonl
    v1/MODEL/SOURCE/features/batch-N.jsonl.gz       table Neuron, 1,024 units a file
    v1/MODEL/SOURCE/activations/batch-N.jsonl.gz    table Activation
    v1/MODEL/SOURCE/explanations/batch-N.jsonl.gz   table Explanation, one row for each label, r as scoreV2 besides
    v1/MODEL/SOURCE/scores/batch-N.jsonl.gz         table ExplanationScore

The import reads all but `scores`: Neuronpedia's own exports hold none. That file is of the form that its
`/api/admin/import-file` takes for a table. Two traps of the import are kept clear of: the columns of a file are those
of its first row, so that all rows have the same and no file is empty; and the text `\\u0000` is cut out of the JSON
wherever it stands, so that backslashes are written as `\\u005c` and NUL as its picture (U+2400). Ids are hashes of what
they name.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pellucid.errors import BadInput
from pellucid.words.described import DescribedUnit, LabelKind, Stretch
from pellucid.words.exports.said import Said, said_of
from pellucid.words.exports.texts import line_of, plain, short
from pellucid.words.judged import MAKER, Judged, Score

TOGETHER = 1024
CREATOR = "clkht01d40000jv08hvalcvly"
"""The user that a Neuronpedia of one's own begins with."""

TYPES: dict[LabelKind, tuple[str, str]] = {
    "tree": ("pellucid_tree", "a tree over tokens that predicts the activation"),
    "rule": ("pellucid_rule", "a rule of where an attention head looks"),
    "language model": ("pellucid_lm", "a sentence by a language model"),
}
"""Names of what makes labels, and what it makes."""

SCORES = {
    "r": "correlation with the activation on held-out text",
    "detection": "balanced accuracy: which contexts of held-out text is the unit active in",
    "fuzzing": "balanced accuracy: which marked tokens of held-out text are those it is active on",
}
Row = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """What Neuronpedia calls the units of one site.

    Attributes:
        model: letters, digits, dashes and underscores; `layer` the number of the layer.
        set_name: of sources alike, one a layer; without the layer, which Neuronpedia puts in front.
        dataset: the text that contexts are from.
        creator: the id of the user who imports.
    """

    model: str
    layer: int
    set_name: str = "pellucid-mlp"
    dataset: str = ""
    creator: str = CREATOR

    def __post_init__(self) -> None:
        for what, name in (("model", self.model), ("set name", self.set_name)):
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,128}", name):
                raise BadInput(f"Neuronpedia {what} {name!r}: use letters, digits, dashes and underscores only")

    @property
    def id(self) -> str:
        """ "3-pellucid-mlp"."""
        return f"{self.layer}-{self.set_name}"


def write_neuronpedia(
    units: Sequence[DescribedUnit], source: Source, directory: Path, judged: Judged | None = None
) -> Path:
    """Write the units of one site; gives the folder of the source.

    Args:
        judged: further labels of units, and scores by exams; give the same for all sites of a model.

    Raises:
        BadInput: units are of several sites, an index is there twice, or the directory cannot be written.
    """
    if len({unit.site for unit in units}) > 1 or len({unit.index for unit in units}) < len(units):
        raise BadInput(f"Neuronpedia source {source.id}: give the units of one site, each once")
    folder = directory / "v1" / source.model / source.id
    tables: dict[str, Callable[[DescribedUnit], list[Row]]] = {
        "features": lambda unit: [_feature(unit, source)],
        "activations": lambda unit: [_activation(unit, context, source) for context in unit.contexts],
        "explanations": lambda unit: [_explanation(unit, said, source) for said in said_of(unit, judged or {})],
        "scores": lambda unit: [row for said in said_of(unit, judged or {}) for row in _scores(unit, said, source)],
    }
    try:
        for name, row in _about(source).items():
            _write(folder / f"{name}.jsonl", [row])
        for name, rows in _config(source, judged or {}).items():
            _write(directory / "v1" / "config" / f"{name}.jsonl", rows)
        for name, make in tables.items():
            for number, start in enumerate(range(0, len(units), TOGETHER)):
                found = [row for unit in units[start : start + TOGETHER] for row in make(unit)]
                if found:
                    _write(folder / name / f"batch-{number}.jsonl.gz", found)
    except OSError as error:
        raise BadInput(f"{directory}: cannot be written ({error.strerror}); choose another directory") from error
    return folder


def _write(path: Path, rows: Sequence[Row]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(line_of(row).replace("\\\\", "\\u005c") + "\n" for row in rows).encode("ascii")
    path.write_bytes(gzip.compress(text, compresslevel=5, mtime=0) if path.suffix == ".gz" else text)


def _text(text: str) -> str:
    return plain(text).replace("\0", "\u2400")


def _id(*parts: object) -> str:
    """25 letters and digits, like the ids that Neuronpedia draws."""
    return "c" + hashlib.sha256(line_of([str(part) for part in parts]).encode()).hexdigest()[:24]


def _where(unit: DescribedUnit, source: Source) -> Row:
    return {"modelId": source.model, "layer": source.id, "index": str(unit.index)}


def _feature(unit: DescribedUnit, source: Source) -> Row:
    empty = (
        "freq_hist_data_bar_heights", "freq_hist_data_bar_values", "logits_hist_data_bar_heights",
        "logits_hist_data_bar_values", "neuron_alignment_indices", "neuron_alignment_l1", "neuron_alignment_values",
        "correlated_neurons_indices", "correlated_neurons_l1", "correlated_neurons_pearson", "decoder_weights_dist",
        "neg_str", "neg_values", "pos_str", "pos_values", "topkCosSimIndices", "topkCosSimValues", "vector",
    )  # fmt: skip
    return {
        **_where(unit, source), "maxActApprox": short(unit.highest), "creatorId": source.creator,
        "frac_nonzero": unit.density, "sourceSetName": source.set_name, **{name: [] for name in empty},
        "vectorLabel": None, "hookName": None, "vectorDefaultSteerStrength": None, "hasVector": False,
    }  # fmt: skip


def _activation(unit: DescribedUnit, context: Stretch, source: Source) -> Row:
    values = [short(value) for value in context.activations]
    peak = max(range(len(values)), key=values.__getitem__, default=0)
    place = (context.how, context.window, context.start, len(values), context.query)
    return {
        "id": _id(source, unit.name, "activation", place),
        **_where(unit, source), "creatorId": source.creator, "dataSource": _text(source.dataset) or None,
        "tokens": [_text(piece) for piece in context.pieces], "maxValue": max(values, default=0.0),
        "minValue": min(values, default=0.0), "values": values, "maxValueTokenIndex": peak, **_looking(context, values),
        "binContains": None, "binMin": None, "binMax": None,
    }  # fmt: skip


def _looking(context: Stretch, values: Sequence[float]) -> Row:
    """Of a head, what it puts on each token from the one that looks; Neuronpedia shows it as an attribution."""
    if context.query is None:
        return {"dfaValues": [], "dfaMaxValue": None, "dfaTargetIndex": None}
    return {"dfaValues": values, "dfaMaxValue": max(values, default=0.0), "dfaTargetIndex": context.query}


def _explanation(unit: DescribedUnit, said: Said, source: Source) -> Row:
    return {
        "id": _said_id(unit, said, source), **_where(unit, source), "authorId": source.creator,
        "description": _text(said.text), "embedding": None, "typeName": TYPES[said.kind][0],
        "explanationModelName": _text(said.maker), "umap_x": 0.0, "umap_y": 0.0, "umap_cluster": 0,
        "umap_log_feature_sparsity": 0.0, "scoreV2": None if math.isnan(said.r) else said.r,
    }  # fmt: skip


def _said_id(unit: DescribedUnit, said: Said, source: Source) -> str:
    return _id(source, unit.name, "explanation", said.kind, said.maker)


def _scores(unit: DescribedUnit, said: Said, source: Source) -> list[Row]:
    found = [("r", said.r, ""), ("r_shuffled", said.shuffled, "")]
    for one in said.exams:
        found += [(one.how, one.value, _details(one)), (f"{one.how}_shuffled", one.shuffled, "")]
    explanation = _said_id(unit, said, source)
    return [
        {
            "id": _id(explanation, name), "initiatedByUserId": source.creator, "value": value,
            "explanationId": explanation, "explanationScoreTypeName": f"{MAKER}_{name}",
            "explanationScoreModelName": _text(said.maker), "jsonDetails": details,
        }
        for name, value, details in found
        if not math.isnan(value)
    ]  # fmt: skip


def _details(score: Score) -> str:
    about = {"low": score.low, "high": score.high, "contexts": score.contexts, "missing": score.missing}
    return json.dumps(about, allow_nan=False)


def _about(source: Source) -> dict[str, Row]:
    by = {"creatorId": source.creator, "visibility": "PRIVATE"}
    return {
        "model": {
            "id": source.model, "displayNameShort": source.model, "displayName": source.model, "layers": 0,
            "neuronsPerLayer": 0, "owner": MAKER, **by,
        },
        "release": {
            "name": source.set_name, "description": "units with labels", "urls": [], "creatorName": MAKER, **by,
        },
        "sourceset": {
            "modelId": source.model, "name": source.set_name, "description": "units with labels", "urls": [],
            "creatorName": MAKER, "releaseName": source.set_name, "allowInferenceSearch": False, **by,
        },
        "source": {
            "id": source.id, "modelId": source.model, "setName": source.set_name,
            "dataset": _text(source.dataset) or None, "inferenceEnabled": False, **by,
        },
    }  # fmt: skip


def _config(source: Source, judged: Judged) -> dict[str, list[Row]]:
    def made(name: str, text: str) -> Row:
        return {"name": name, "displayName": name, "description": text, "creatorName": MAKER}

    owned = {"creatorId": source.creator}
    models = sorted({one.maker for labels in judged.values() for one in labels} - {MAKER})
    asked = [made(_text(name), "a language model that was asked") for name in models]
    scores = [
        made(f"{MAKER}_{name}{ending}", text + more) | owned
        for name, text in SCORES.items()
        for ending, more in (("", ""), ("_shuffled", ", with the label of another unit"))
    ]
    return {
        "explanation_model_type": [made(MAKER, "labels that predict, made without a language model"), *asked],
        "explanation_type": [made(name, text) | owned for name, text in TYPES.values()],
        "explanation_score_model": [made(MAKER, "labels are run, not asked"), *asked],
        "explanation_score_type": scores,
    }
