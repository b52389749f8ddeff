import planted_words
import pytest
import reports_planted as planted

from pellucid.ir.bits import block_bits
from pellucid.ir.notes import Verdict
from pellucid.reports.summary import bits, program_bits, summarise
from pellucid.words.reading.install import choose, install_words


def test_the_ledger_lines_of_the_planted_mlp():
    program = planted.mlp()
    summary = summarise(program)
    parameters, units, loss = summary.lines
    assert (summary.parameters, summary.tensors, summary.functions, summary.origin) == (5962, 7, 5, "nesting")
    assert [share.kind for share in parameters.shares] == ["weights", "code", "words"]
    assert [share.shown for share in parameters.shares] == ["8.4 %", "91.6 %", "0 %"]
    assert units.basis == "106 units"
    assert loss.shares == ()


def test_measured_loss_is_shown_and_each_share_has_its_own_bar():
    program = planted.mlp().with_notes(loss_shares={"weights": 0.4, "code": 1.3, "words": float("nan")})
    loss = summarise(program).lines[2]
    assert [share.shown for share in loss.shares] == ["40.0 %", "130.0 %", "undefined"]
    assert [(share.start, share.value) for share in loss.shares] == [(0.0, 0.4), (0.0, 1.0), (0.0, 0.0)]


def test_words_that_do_not_run_yet_have_a_ledger_of_their_own():
    program, words, _ = planted_words.described()
    installed = install_words(program, words)
    whole = Verdict("program", "words", "loss recovered", 0.9, "", (0.8, 1.0), 32, "sampled", 0.1, True, "", "a nat")
    parameters, _, loss = summarise(installed.with_notes(verdicts=(whole,))).spoken
    assert [share.shown for share in parameters.shares] == ["49.1 %", "0 %", "50.9 %"]
    assert [share.shown for share in loss.shares] == ["", "", "90.0 %"]
    assert summarise(installed.with_notes(verdicts=(whole,))).losses == "a nat"
    assert summarise(installed).spoken[2].shares == ()
    assert summarise(choose(installed)).spoken == summarise(program).spoken == ()


def test_bits_count_each_function_and_each_tensor_once():
    program = planted.mlp()
    exact = sum(
        block_bits(function.reading("weights").body, program.weights) for function in program.functions.values()
    )
    chosen = sum(block_bits(function.reading().body, program.weights) for function in program.functions.values())
    assert program_bits(program, "weights") == pytest.approx(exact)
    assert program_bits(program, None) == pytest.approx(chosen)
    tied = planted.transformer(layers=1, width=8, hidden=16, vocabulary=100)
    tensors = sum(8.0 * tensor.numel() * tensor.element_size() for tensor in tied.weights.values())
    assert tensors < program_bits(tied, None) < tensors + 5000


def test_bits_are_exact_while_they_can_be_read():
    assert bits(1.0) == "1 bit"
    assert bits(16_128.4) == "16,128 bits"
    assert bits(4.3e9) == "4.3 Gbit"
