"""Describing a tiny language model, from the model and a text to a program that runs on words."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pellucid.data.corpus import Corpus
from pellucid.describing import Effort, describe
from pellucid.dictionaries.training import Recipe
from pellucid.errors import BadInput
from pellucid.ir.interpret import run_functions
from pellucid.words.described import PLACE, read_units
from pellucid.words.heads.fitting import Course
from pellucid.words.heads.saving import load_heads
from pellucid.words.hierarchy.modules import PLACE as MODULES_PLACE
from pellucid.words.labels.grow import Growth
from pellucid.words.labels.labelset import load_labels, save_labels
from pellucid.words.labels.parser import parse_label
from pellucid.words.reading.install import Words
from pellucid.words.reading.sources import knowing
from pellucid.words.reading.tune import Tuning

VOCABULARY = 40
LITTLE = Effort(
    recipe=Recipe(latents=16, active=4, epochs=2, batch=64),
    growth=Growth(leaves=4),
    course=Course(steps=10, windows=4),
    tuning=Tuning(steps=4, windows=4, every=2),
    threads=1,
)


@pytest.fixture(scope="module")
def model():
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, max_position_embeddings=32,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.fixture(scope="module")
def corpus():
    rng = np.random.default_rng(0)
    pieces = ("<s>", *(f" w{i}" for i in range(1, VOCABULARY - 2)), ".", ",")
    ids = rng.integers(1, VOCABULARY, (80, 16))
    ids[:, 0] = 0
    return Corpus(ids, pieces, beginning=0)


@pytest.fixture(scope="module")
def described(model, corpus, tmp_path_factory):
    output = tmp_path_factory.mktemp("described") / "out"
    said = []
    return describe(model, corpus, output=output, effort=LITTLE, progress=said.append), output, said


def test_the_program_stays_exact(described, model, corpus):
    program, _, _ = described
    ids = torch.from_numpy(corpus.ids[:4])
    with torch.no_grad():
        wanted = model(ids).logits
    assert torch.allclose(program.run(ids, reading="weights"), wanted, atol=1e-4)
    assert torch.allclose(program(ids), wanted, atol=1e-4)


def test_it_runs_on_words_which_is_something_else(described, corpus):
    program, _, _ = described
    ids = torch.from_numpy(corpus.ids[:4])
    words = program.run(ids, reading="words")
    assert torch.isfinite(words).all()
    assert not torch.allclose(words, program(ids), atol=1e-3)
    kinds = {name: [reading.kind for reading in function.readings] for name, function in program.functions.items()}
    assert "words" in kinds["model.layers.1.mlp.dictionary"]
    assert "words" in kinds["model.layers.0.self_attn"]


def test_all_that_was_found_is_in_files(described):
    _, output, _ = described
    found = {str(path.relative_to(output)) for path in (output / "words").rglob("*") if path.is_file()}
    assert "words/labels/model.layers.1.mlp.json" in found
    assert "words/dictionaries/model.layers.0.mlp.safetensors" in found
    assert {path.name for path in output.iterdir()} >= {"program.py", "program.json", "weights.safetensors", "words"}


def test_every_latent_and_head_has_a_record_a_page_and_is_shown(described):
    from typer.testing import CliRunner

    from pellucid.cli import app

    _program, output, _ = described
    units = read_units(output / PLACE)
    assert len(units) == 2 * LITTLE.recipe.latents + 2 * 2
    heads = [unit for unit in units if unit.kind == "rule"]
    assert [unit.name for unit in heads] == [f"model.layers.{i}.self_attn:heads[{j}]" for i in (0, 1) for j in (0, 1)]
    assert all(np.isfinite([unit.r, unit.shuffled]).all() and unit.contexts for unit in heads)
    assert all(unit.incoming for unit in heads[2:])
    assert all(unit.outgoing for unit in heads)
    assert all(unit.label is not None for unit in units)
    pages = [path.read_text() for path in (output / "units").iterdir()]
    assert all(any(f'id="u{unit.index}"' in page and unit.site in page for page in pages) for unit in units)
    assert 'href="units/index.html"' in (output / "report.html").read_text()
    shown = CliRunner().invoke(app, ["show", str(output), units[3].name])
    assert (shown.exit_code, units[3].name in shown.output) == (0, True)
    assert "where it is highest" in shown.output or "active on 0" in shown.output
    shown = CliRunner().invoke(app, ["show", str(output), heads[3].name])
    assert (shown.exit_code, heads[3].name in shown.output) == (0, True)
    assert "where it looks hardest" in shown.output


def test_the_emitted_file_was_run_exactly_and_on_words(described):
    program, _, _ = described
    exact = [verdict for verdict in program.notes.verdicts if verdict.reading == "weights"]
    words = {verdict.part: verdict for verdict in program.notes.verdicts if verdict.reading == "words"}
    assert all(verdict.passed for verdict in exact), [verdict for verdict in exact if not verdict.passed]
    assert set(words) == {f"model.layers.{i}.{part}" for i in (0, 1) for part in ("mlp", "self_attn")} | {"program"}
    assert all(np.isfinite([v.value, v.control, *v.interval]).all() and v.inputs == 8 for v in words.values())


def test_n_gram_models_stand_beside_all_words_together(described):
    program, output, _ = described
    (whole,) = [one for one in program.notes.verdicts if (one.part, one.reading) == ("program", "words")]
    assert [name in whole.detail for name in ("on words", "unigram", "bigram", "trigram")] == [True] * 4
    assert "trigram" in (output / "report.html").read_text()


def test_a_second_call_makes_nothing_anew(described, model, corpus):
    program, output, said = described
    again = []
    second = describe(model, corpus, output=output, effort=LITTLE, progress=again.append)
    assert any("fit the rules" in line for line in said)
    assert not any(word in line for line in again for word in ("dictionary:", "labels:", "heads:"))
    assert all(torch.equal(program.weights[name], second.weights[name]) for name in program.weights)


def test_another_text_or_effort_does_not_go_into_the_same_directory(described, model, corpus):
    _, output, _ = described
    for text, effort in ((corpus.rows(slice(0, 60)), LITTLE), (corpus, replace(LITTLE, seed=1))):
        with pytest.raises(BadInput, match="made from another"):
            describe(model, text, output=output, effort=effort)


def test_a_text_of_another_vocabulary_is_refused(model, corpus, tmp_path):
    with pytest.raises(BadInput, match="own tokenizer"):
        describe(model, Corpus(corpus.ids % 9, corpus.pieces[:10], 0), output=tmp_path / "out", effort=LITTLE)


def test_modules_of_every_level_are_kept_and_shown(described):
    from pellucid.words.hierarchy.modules import PLACE, read_modules

    program, output, said = described
    modules = read_modules(output / PLACE)
    parts = {f"model.layers.{i}.{part}" for i in (0, 1) for part in ("mlp", "self_attn")}
    assert {module.name for module in modules} >= {program.entry, "model.layers.0", "model.layers.1", *parts}
    assert any(module.level == "module" for module in modules)
    page = (output / "modules" / "index.html").read_text()
    assert page.count('<details class="branch"') == len(modules)
    assert "../modules/index.html" in (output / "units" / "index.html").read_text()
    assert any(line.startswith("modules:") for line in said)


def test_only_what_is_asked_for_is_described(model, corpus, tmp_path):
    effort = replace(LITTLE, only=("*.1.mlp", "*.0.self_attn"))
    program = describe(model, corpus, output=tmp_path / "out", effort=effort)
    worded = {name for name, function in program.functions.items() if len(function.readings) > 1}
    assert worded == {"model.layers.1.mlp.dictionary", "model.layers.1.mlp.missed", "model.layers.0.self_attn"}
    with pytest.raises(BadInput, match="fits no MLP and no attention function"):
        describe(model, corpus, output=tmp_path / "none", effort=replace(LITTLE, only=("*.7.mlp",)))
    assert not (tmp_path / "none").exists()
    bare = describe(model, corpus, output=tmp_path / "bare", effort=replace(LITTLE, only=("*.1.mlp",), tuning=None))
    assert not any(name.endswith(".rule") for name in bare.functions)


def test_labels_that_were_edited_to_cite_are_run_recorded_and_described(model, corpus, tmp_path):
    effort, name = replace(LITTLE, tuning=None), "model.layers.1.mlp"
    describe(model, corpus, output=tmp_path, effort=effort)
    (tmp_path / MODULES_PLACE).unlink()
    file = tmp_path / "words/labels" / f"{name}.json"
    grown = load_labels(file)
    lines = (
        '3 where unit 0.0 in {quiet} and current in {" w5"}; 1 otherwise',
        '2 where head 0.1 in {" w5"}; 1 otherwise',
    )
    cites = tuple(parse_label(line, grown.lexicon) for line in lines)
    save_labels(replace(grown, labels=(*cites, *grown.labels[2:])), file)
    program = describe(model, corpus, output=tmp_path, effort=effort)
    units = {unit.name: unit for unit in read_units(tmp_path / PLACE)}
    assert [units[f"{name}.dictionary:latents[{i}]"].label for i in (0, 1)] == [str(label) for label in cites]
    ids = corpus.ids
    labels = {one: load_labels(tmp_path / "words/labels" / f"{one}.json") for one in ("model.layers.0.mlp", name)}
    said = knowing(program, Words(labels, load_heads(tmp_path / "words/heads")))[name].predict(ids)
    assert np.ptp(said[:2], axis=(1, 2)).min() > 0
    found = {}
    run_functions(
        program, [torch.from_numpy(ids)], "words", watch=lambda one, _, outputs: found.__setitem__(one, outputs)
    )
    np.testing.assert_allclose(np.moveaxis(found[f"{name}.dictionary"][0].numpy(), -1, 0), said, rtol=1e-6)
