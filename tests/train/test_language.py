"""A tiny Llama learns a text whose next letter is certain; the exam before and after; options that do not fit."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from loader_files import write_folder
from typer.testing import CliRunner

from pellucid.cli import app
from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput
from pellucid.train import train
from pellucid.train.language import PLAN, fine_tuning, next_token, parts

transformers = pytest.importorskip("transformers")

LETTERS = "abcdefghijklmnopqrstuvwx"
QUICK = dataclasses.replace(PLAN, steps=30, rate=1e-2, pairs=2, saved=10, reported=20)


def llama():
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=len(LETTERS), hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2, tie_word_embeddings=True,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


def corpus(windows=40, context=12, seed=0):
    """Every letter is followed by the one three places on."""
    starts = np.random.default_rng(seed).integers(0, len(LETTERS), (windows, 1))
    return Corpus(((starts + 3 * np.arange(context)) % len(LETTERS)).astype(np.int32), tuple(LETTERS))


def weights(model):
    return torch.cat([weight.detach().flatten() for weight in model.parameters()])


def test_windows_held_out_are_never_drawn():
    text = Corpus(np.arange(24).reshape(8, 3).astype(np.int32), tuple(LETTERS))
    fitted, held = parts(text)
    assert (len(fitted), len(held)) == (7, 1)
    (drawn,), following = fine_tuning(llama(), text, "letters").batch(torch.Generator().manual_seed(0), 1000)
    seen = set(torch.cat([drawn, following], 1).flatten().tolist())
    assert seen <= set(fitted.ids.ravel().tolist())
    assert len(drawn) <= 32


def test_a_copy_is_trained_and_its_table_stays():
    model = llama()
    before = weights(model).clone()
    task = fine_tuning(model, corpus(), "letters")
    found = train(task, "none", plan=QUICK)
    assert torch.equal(weights(model), before)
    table = found.model.model.get_input_embeddings().weight
    assert torch.equal(table, model.get_input_embeddings().weight)
    assert found.figures.accuracy > task.accuracy(model_of(task)) + 0.3


def model_of(task):
    return task.build().eval()


def test_the_loss_is_that_of_the_next_token():
    logits, targets = torch.randn(2, 3, 5), torch.randint(5, (2, 3))
    expected = -logits.log_softmax(-1).gather(-1, targets[..., None]).mean()
    torch.testing.assert_close(next_token(logits, targets), expected)


class Killed(Exception):
    pass


def test_a_killed_run_resumes_to_the_same_weights(tmp_path):
    plan = dataclasses.replace(QUICK, steps=10, saved=2)
    task = fine_tuning(llama(), corpus(), "letters")
    count = 0

    def batch(generator, samples):
        nonlocal count
        count += 1
        if count > 7:
            raise Killed
        return task.batch(generator, samples)

    whole = train(task, plan=plan)
    with pytest.raises(Killed):
        train(dataclasses.replace(task, batch=batch), plan=plan, directory=tmp_path / "run")
    resumed = train(task, plan=plan, directory=tmp_path / "run")
    assert torch.equal(weights(whole.model), weights(resumed.model))
    assert whole.figures.interface == resumed.figures.interface


def test_what_cannot_be_learned_is_refused():
    with pytest.raises(BadInput, match="one window cannot be held out"):
        fine_tuning(llama(), corpus(1), "letters")
    with pytest.raises(BadInput, match="beyond its vocabulary of 24"):
        fine_tuning(llama(), Corpus(np.full((4, 5), 30, dtype=np.int32), tuple(map(str, range(31)))), "letters")
    with pytest.raises(BadInput, match="gives no logits"):
        fine_tuning(llama().model, corpus(), "letters")
    with pytest.raises(BadInput, match="gives no logits"):
        fine_tuning(torch.nn.Embedding(24, 4), corpus(), "letters")


# ---- the command

TOKENIZER = {
    "version": "1.0",
    "added_tokens": [],
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
    "model": {"type": "BPE", "vocab": {letter: i for i, letter in enumerate(LETTERS + "Ġ.Ċ,7")}, "merges": []},
}


@pytest.fixture
def files(tmp_path, monkeypatch):
    """A model with its tokenizer, a text, and questions, in the working directory."""
    folder = write_folder(tmp_path / "tiny")
    (folder / "tokenizer.json").write_text(json.dumps(TOKENIZER))
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    write_folder(tmp_path / "mute")
    words = np.random.default_rng(0).choice(["cat", "sat", "mat", "dog", "ran"], 2500)
    (tmp_path / "text.txt").write_text(" ".join(words) + ".")
    (tmp_path / "short.txt").write_text("a cat sat.")
    (tmp_path / "wsc.txt").write_text("the [MASK] ran.\n[MASK]\ncat,dog\ncat\n")
    (tmp_path / "blimp").mkdir()
    pair = {"sentence_good": "the cat ran.", "sentence_bad": "the cat cat."}
    (tmp_path / "blimp" / "one.jsonl").write_text(json.dumps(pair) + "\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


EXAM = ["--evaluate", "--wsc", "wsc.txt", "--blimp", "blimp"]


@pytest.mark.parametrize("model", [["--model", "tiny"], []])
def test_the_same_exam_for_every_language_model(files, model):
    command = ["train", "none", *model, "--text", "text.txt", *EXAM, "--steps", "4", "-o", "run"]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    for told in ("held-out loss", "BLiMP", "Winograd"):
        assert told in first.output
    kept = (files / "run" / "result.json").read_bytes()
    marks = json.loads(kept)["capability"]
    assert marks["before"]["pairs"]["of"] == marks["after"]["schemas"]["of"] == 1
    assert marks["after"]["loss"] < marks["before"]["loss"] < 20
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0, again.output
    assert (files / "run" / "result.json").read_bytes() == kept


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--model", "tiny"], "give one with --text"),
        (["--model", "tiny", "--text", "short.txt"], "do not fill one window"),
        (["--model", "tiny", "--text", "nowhere.txt"], "no such file"),
        (["--model", "mute", "--text", "text.txt"], "no tokenizer"),
        (["--model", "nowhere", "--text", "text.txt"], "no such file or folder"),
        (["--recipe", "pretrained", "--text", "text.txt"], "with --model"),
        (["--recipe", "characters", "--model", "tiny", "--text", "text.txt"], "leave --model away"),
        (["--recipe", "characters"], "give one with --text"),
        (["--recipe", "double-digits", "--evaluate"], "no language model: --evaluate"),
        (["--text", "text.txt", "--wsc", "wsc.txt"], "add --evaluate"),
        (["--text", "text.txt", "--evaluate", "--wsc", "no.txt"], "--wsc takes"),
        (["--text", "text.txt", "--evaluate", "--blimp", "tiny"], "holds no .jsonl"),
        (["--text", "text.txt", "--evaluate", "--wsc", "blimp"], "cannot be read"),
    ],
)
def test_one_line_for_what_does_not_fit(files, words, told):
    end = CliRunner().invoke(app, ["train", "none", *words, "-o", "run"])
    assert isinstance(end.exception, BadInput)
    assert told in str(end.exception)
    assert "\n" not in str(end.exception)
    assert not (files / "run").exists()
