"""Exports as Neuronpedia imports them, held to the columns of its tables."""

import dataclasses
import gzip
import json
import re
from typing import Literal

import pytest
from planted_units import HOSTILE, SITE, hostile_unit, units
from pydantic import BaseModel, ConfigDict

from pellucid.errors import BadInput
from pellucid.words.exports import Source, write_neuronpedia

STRICT = ConfigDict(extra="forbid", strict=True)


class Place(BaseModel):
    model_config = STRICT
    modelId: Literal["stories15m"]
    layer: Literal["0-pellucid-mlp"]
    index: str


class Neuron(Place):
    maxActApprox: float
    creatorId: str
    frac_nonzero: float
    freq_hist_data_bar_heights: list[float]
    freq_hist_data_bar_values: list[float]
    logits_hist_data_bar_heights: list[float]
    logits_hist_data_bar_values: list[float]
    neuron_alignment_indices: list[int]
    neuron_alignment_l1: list[float]
    neuron_alignment_values: list[float]
    correlated_neurons_indices: list[int]
    correlated_neurons_l1: list[float]
    correlated_neurons_pearson: list[float]
    decoder_weights_dist: list[float]
    neg_str: list[str]
    neg_values: list[float]
    pos_str: list[str]
    pos_values: list[float]
    sourceSetName: Literal["pellucid-mlp"]
    topkCosSimIndices: list[int]
    topkCosSimValues: list[float]
    vector: list[float]
    vectorLabel: str | None
    hookName: str | None
    vectorDefaultSteerStrength: float | None
    hasVector: bool


class Activation(Place):
    id: str
    creatorId: str
    dataSource: str | None
    tokens: list[str]
    maxValue: float
    minValue: float
    values: list[float]
    maxValueTokenIndex: int
    dfaValues: list[float]
    dfaMaxValue: float | None
    dfaTargetIndex: int | None
    binContains: float | None
    binMin: float | None
    binMax: float | None


class Explanation(Place):
    id: str
    authorId: str
    description: str
    embedding: None
    typeName: str
    explanationModelName: str
    umap_x: float
    umap_y: float
    umap_cluster: int
    umap_log_feature_sparsity: float
    scoreV2: float | None


class Score(BaseModel):
    model_config = STRICT
    id: str
    initiatedByUserId: str
    value: float
    explanationId: str
    explanationScoreTypeName: str
    explanationScoreModelName: str
    jsonDetails: str


TABLES = {"features": Neuron, "activations": Activation, "explanations": Explanation, "scores": Score}
SOURCE = Source("stories15m", 0, dataset="TinyStories")


def imported(path):
    """Rows as the import reads them: NUL cut out of the text first, the columns those of the first row."""
    text = gzip.decompress(path.read_bytes()).decode("utf-8").replace("\\u0000", " ")
    rows = [json.loads(line, parse_constant=pytest.fail) for line in text.strip().split("\n")]
    assert all(row.keys() == rows[0].keys() for row in rows)
    return [TABLES[path.parent.name].model_validate(row) for row in rows]


def batches(folder, table):
    return [imported(folder / table / f"batch-{i}.jsonl.gz") for i in range(len(list((folder / table).iterdir())))]


def test_tables(tmp_path):
    folder = write_neuronpedia(units(4), SOURCE, tmp_path)
    assert folder == tmp_path / "v1" / "stories15m" / "0-pellucid-mlp"
    found = {table: batches(folder, table)[0] for table in TABLES}
    assert [row.index for row in found["features"]] == ["0", "1", "2", "3"]
    assert [row.index for row in found["explanations"]] == ["0", "1", "2"]
    assert found["features"][1].maxActApprox == 2.5
    first = next(row for row in found["activations"] if row.index == "1")
    assert (first.tokens[first.maxValueTokenIndex], first.maxValue, first.minValue) == (" the", 2.5, 0.0)
    ids = {row.id: row for row in found["explanations"]}
    assert len(found["scores"]) == 6
    for score in found["scores"]:
        if score.explanationScoreTypeName == "pellucid_r":
            assert score.value == ids[score.explanationId].scoreV2
    every = [row.id for table in ("activations", "explanations", "scores") for row in found[table]]
    assert len(set(every)) == len(every)
    assert all(re.fullmatch("c[0-9a-f]{24}", one) for one in every)


def test_heads_say_which_token_looks(tmp_path):
    unit = units(4)[1]
    looks = dataclasses.replace(unit.contexts[0], query=2)
    folder = write_neuronpedia([dataclasses.replace(unit, kind="rule", contexts=(looks,))], SOURCE, tmp_path)
    (row,) = batches(folder, "activations")[0]
    assert (row.dfaTargetIndex, row.dfaValues, row.dfaMaxValue) == (2, row.values, row.maxValue)
    assert batches(folder, "explanations")[0][0].typeName == "pellucid_rule"


def test_contexts_that_begin_alike_are_told_apart(tmp_path):
    unit = units(4)[1]
    (one,) = unit.contexts
    longer = dataclasses.replace(
        one, pieces=(*one.pieces, "."), activations=(*one.activations, 0.0), predicted=(*one.predicted, 0.0)
    )
    looks = [dataclasses.replace(one, query=query) for query in (1, 2)]
    folder = write_neuronpedia([dataclasses.replace(unit, contexts=(one, longer, *looks))], SOURCE, tmp_path)
    assert len({row.id for row in batches(folder, "activations")[0]}) == 4


def test_what_rows_refer_to_is_there(tmp_path):
    folder = write_neuronpedia(units(4), SOURCE, tmp_path)
    names = {
        kind: {json.loads(line)["name"] for line in (tmp_path / f"v1/config/{kind}.jsonl").read_text().splitlines()}
        for kind in ("explanation_type", "explanation_model_type", "explanation_score_type", "explanation_score_model")
    }
    for row in batches(folder, "explanations")[0]:
        assert row.typeName in names["explanation_type"]
        assert row.explanationModelName in names["explanation_model_type"]
    for row in batches(folder, "scores")[0]:
        assert row.explanationScoreTypeName in names["explanation_score_type"]
        assert row.explanationScoreModelName in names["explanation_score_model"]
    about = {name: json.loads((folder / f"{name}.jsonl").read_text()) for name in ("model", "source", "sourceset")}
    release = json.loads((folder / "release.jsonl").read_text())
    assert about["source"]["setName"] == about["sourceset"]["name"] == "pellucid-mlp"
    assert (about["sourceset"]["releaseName"], about["model"]["id"]) == (release["name"], "stories15m")


def test_hostile_text_survives_the_import(tmp_path):
    folder = write_neuronpedia([hostile_unit()], SOURCE, tmp_path)
    expected = [text.replace("\0", "\u2400").replace("\ud800", "\\ud800") for text in HOSTILE]
    (rows,) = batches(folder, "activations")
    assert rows[0].tokens == expected
    (explanations,) = batches(folder, "explanations")
    assert all(text in explanations[0].description for text in expected)


def test_batches_and_bytes(tmp_path):
    many = units(1027)
    folder = write_neuronpedia(many, SOURCE, tmp_path / "a")
    assert [len(batch) for batch in batches(folder, "features")] == [1024, 3]
    assert [len(batch) for batch in batches(folder, "explanations")] == [1024, 2]
    write_neuronpedia(many, SOURCE, tmp_path / "b")
    for path in sorted(path for path in (tmp_path / "a").rglob("*") if path.is_file()):
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_no_empty_file(tmp_path):
    folder = write_neuronpedia(units(3)[-1:], SOURCE, tmp_path)
    assert sorted(path.name for path in folder.iterdir() if path.is_dir()) == ["features"]


def test_bad_input(tmp_path):
    with pytest.raises(BadInput, match="one site"):
        write_neuronpedia([*units(3), hostile_unit(1)], SOURCE, tmp_path)
    with pytest.raises(BadInput, match="one site"):
        write_neuronpedia([hostile_unit(0), hostile_unit(1, SITE.replace("0", "1"))], SOURCE, tmp_path)
    with pytest.raises(BadInput, match="letters"):
        Source("../../etc", 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(BadInput, match="cannot be written"):
        write_neuronpedia(units(3), SOURCE, tmp_path / "file")
