"""A described directory in the forms of other tools: all units and labels arrive, hostile text is only text."""

from __future__ import annotations

import dataclasses
import gzip
import json

import pytest
import torch
from planted_language import WIDTH, language_program
from planted_units import HOSTILE, hostile_unit, judged, units
from typer.testing import CliRunner

from pellucid.cli import app
from pellucid.dictionaries.dictionary import Dictionary, TopK
from pellucid.dictionaries.install import install
from pellucid.emitters.files import emit
from pellucid.errors import BadInput
from pellucid.exporting import export, model_name
from pellucid.words.described import PLACE, DescribedUnit, read_units, write_units
from pellucid.words.exports.layers import layers_of
from pellucid.words.judged import by_unit, read_judged, write_judged

SITE = "layers.1.mlp.dictionary:latents"
HEADS = "layers.0.attn:heads"


@pytest.fixture(scope="module")
def program():
    generator = torch.Generator().manual_seed(0)
    encoder, decoder = (torch.randn(6, WIDTH, generator=generator) for _ in range(2))
    dictionary = Dictionary("transcoder", TopK(2), encoder, torch.zeros(6), decoder, torch.zeros(WIDTH))
    return install(language_program(), "layers.1.mlp", dictionary)


@pytest.fixture
def described(program, tmp_path):
    place = tmp_path / "described"
    emit(program, place)
    head = DescribedUnit(f"{HEADS}[0]", "looks at the token before", "rule", 0.4, 0.1, 0.3)
    module = dataclasses.replace(head, name="layers.0")
    write_units([*units(4, SITE), head, module], place / PLACE)
    write_judged(judged(SITE), place / PLACE)
    return place


def rows(file):
    return [json.loads(line) for line in gzip.decompress(file.read_bytes()).decode().splitlines()]


def test_parquet_comes_back_as_it_was(described, tmp_path):
    export(described, "parquet", tmp_path / "out")
    assert repr(read_units(tmp_path / "out")) == repr(read_units(described / PLACE))
    assert repr(read_judged(tmp_path / "out")) == repr(by_unit(judged(SITE)))
    for file in ("units.parquet", "contexts.parquet", "labels.parquet"):
        assert (tmp_path / "out" / file).read_bytes() == (described / PLACE / file).read_bytes()


def test_every_site_is_a_source_with_its_layer(described, tmp_path):
    written = export(described, "neuronpedia", tmp_path / "out", model="planted")
    folders = sorted(path.name for path in (tmp_path / "out/v1/planted").iterdir())
    assert folders == ["0-pellucid-heads", "1-pellucid-mlp"]
    assert len(written.lines) == 2
    assert written.skipped == ("layers.0: is no unit with a number",)


def test_neuronpedia_has_the_labels_of_all_makers_with_scores(described, tmp_path):
    export(described, "neuronpedia", tmp_path / "out", model="planted")
    source = tmp_path / "out/v1/planted/1-pellucid-mlp"
    explanations = rows(source / "explanations/batch-0.jsonl.gz")
    assert [(row["index"], row["explanationModelName"], row["typeName"]) for row in explanations] == [
        ("0", "pellucid", "pellucid_tree"), ("0", "a model", "pellucid_lm"), ("1", "pellucid", "pellucid_tree"),
        ("2", "pellucid", "pellucid_tree"),
    ]  # fmt: skip
    assert len({row["id"] for row in explanations}) == 4
    scores = rows(source / "scores/batch-0.jsonl.gz")
    of_model = {r["explanationScoreTypeName"]: r for r in scores if r["explanationId"] == explanations[1]["id"]}
    assert {name: row["value"] for name, row in of_model.items()} == {
        "pellucid_detection": 0.9, "pellucid_detection_shuffled": 0.5,
    }  # fmt: skip
    assert json.loads(of_model["pellucid_detection"]["jsonDetails"])["contexts"] == 10
    config = tmp_path / "out/v1/config"
    for file, used in (
        ("explanation_model_type", {row["explanationModelName"] for row in explanations}),
        ("explanation_score_model", {row["explanationScoreModelName"] for row in scores}),
        ("explanation_score_type", {row["explanationScoreTypeName"] for row in scores}),
        ("explanation_type", {row["typeName"] for row in explanations}),
    ):
        names = {json.loads(line)["name"] for line in (config / f"{file}.jsonl").read_text().splitlines()}
        assert used <= names, file


def test_delphi_has_a_folder_for_each_maker(described, tmp_path):
    written = export(described, "delphi", tmp_path / "out")
    found = {str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.txt")}
    name = "layers.1.mlp.dictionary--latents_latent0.txt"
    assert f"pellucid/explanations/{name}" in found
    assert f"pellucid/scores/simulation/{name}" in found
    assert [path for path in found if path.startswith("a model")] == [f"a model/explanations/{name}"]
    assert json.loads((tmp_path / "out/a model/explanations" / name).read_text()) == "".join(HOSTILE).replace(
        "\ud800", "\\ud800"
    )
    assert written.lines == ("pellucid: 4 labels", "a model: 1 label")


def test_hostile_names_stay_in_the_folder(program, tmp_path):
    place = tmp_path / "described"
    emit(program, place)
    write_units([hostile_unit(0, "../../x\n<b>:latents"), hostile_unit(1, SITE)], place / PLACE)
    labels = [dataclasses.replace(one, unit=f"{SITE}[1]", maker=maker) for one, maker in zip(
        judged(SITE)[1:2] * 3, ("../../up", "..", "--./up"), strict=True)]  # fmt: skip
    write_judged(labels, place / PLACE)
    before = {path for path in tmp_path.rglob("*")}
    written = export(place, "delphi", tmp_path / "delphi")
    assert len(written.lines) == 4
    assert all((tmp_path / "delphi") in path.parents or path == tmp_path / "delphi"
               for path in set(tmp_path.rglob("*")) - before)  # fmt: skip
    assert not list(tmp_path.parent.glob("up*"))
    again = export(place, "neuronpedia", tmp_path / "neuronpedia")
    assert again.skipped == ("../../x\n<b>:latents: 1 unit of a function that the program does not call",)


def test_layers_are_told_by_calls_and_not_by_names(program):
    layers = layers_of(program)
    assert [layers[f"layers.{i}.{part}"] for i in (0, 1) for part in ("attn", "mlp")] == [0, 0, 1, 1]
    assert (layers["layers.1.mlp.dictionary"], layers["network"]) == (1, 0)
    turned = [node for node in program["network"].readings[0].body.nodes]
    body = dataclasses.replace(program["network"].readings[0].body, nodes=tuple(reversed(turned)))
    reading = dataclasses.replace(program["network"].readings[0], body=body)
    network = dataclasses.replace(program["network"], readings=(reading,))
    found = layers_of(dataclasses.replace(program, functions={**program.functions, "network": network}))
    assert (found["layers.1.mlp.dictionary"], found["layers.0.mlp"]) == (0, 1)
    assert set(layers_of(language_program(layers=1)).values()) == {0}


@pytest.mark.parametrize(
    ("form", "source", "target", "match"),
    [
        ("csv", "described", "out", "use one of neuronpedia"),
        ("parquet", "nowhere", "out", "make them with pellucid describe"),
        ("parquet", ".", "out", "make them with pellucid describe"),
        ("parquet", "described", "full", "name a new directory"),
        ("parquet", "described", "described", "name a new directory"),
        ("parquet", "described", "full/file", "a file of this name exists"),
    ],
)
def test_bad_input(described, tmp_path, form, source, target, match):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("mine")
    with pytest.raises(BadInput, match=match) as caught:
        export(tmp_path / source, form, tmp_path / target)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "full" / "file").read_text() == "mine"
    assert not (tmp_path / "out").exists()


def test_a_name_that_neuronpedia_does_not_take_leaves_nothing(described, tmp_path):
    with pytest.raises(BadInput, match="letters, digits"):
        export(described, "neuronpedia", tmp_path / "out", model="a/b")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["described"]


def test_model_name(program):
    assert model_name(dataclasses.replace(program, source="/models/Smol LM2.gguf")) == "Smol-LM2-gguf"
    assert model_name(dataclasses.replace(program, source="///")) == "model"


def test_command(described, tmp_path):
    out = tmp_path / "out"
    found = CliRunner().invoke(app, ["export", str(described), "--to", "neuronpedia", "-o", str(out), "--model", "m"])
    assert found.exit_code == 0, found.output
    assert f"v1/m/1-pellucid-mlp: 4 units of {SITE}" in found.output
    assert "left out: layers.0: is no unit with a number" in found.output
    assert f"export: {out}" in found.output
