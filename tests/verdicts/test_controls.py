import torch

from pellucid.errors import CannotRun
from pellucid.verdicts.controls import control, rolled
from pellucid.verdicts.measure import Claim

CLAIM = Claim("difference", 1e-4)


def _control(run, inputs):
    wanted = run(inputs)
    return control(run, CLAIM, lambda wrong: CLAIM.score(wrong(inputs), wanted))


def test_another_sample_must_give_another_output():
    found = _control(lambda values: [values[0] * 2], [torch.tensor([[1.0], [2.0], [4.0]])])
    assert (found.failed, found.how) == (True, "fed with another sample")
    assert found.value == 6.0 / 8.0


def test_where_the_sample_does_not_matter_the_outputs_are_negated():
    found = _control(lambda values: [torch.ones(3)], [torch.tensor([[1.0], [2.0]])])
    assert (found.failed, found.how, found.value) == (True, "outputs negated", 2.0)


def test_zeros_are_raised_and_truths_inverted():
    assert _control(lambda values: [torch.zeros(3)], [torch.rand(2)]).how == "outputs raised by one"
    assert _control(lambda values: [torch.ones(3, dtype=torch.bool)], [torch.rand(2)]).failed


def test_a_measure_that_cannot_fail_is_shown_as_such():
    blind = control(lambda v: v, CLAIM, lambda wrong: CLAIM.score([torch.ones(1)], [torch.ones(1)]))
    assert not blind.failed


def test_a_substitution_that_does_not_run_is_passed_over():
    def run(values):
        if values[0][0] != 1.0:
            raise CannotRun("no")
        return [values[0]]

    assert _control(run, [torch.tensor([1.0, 2.0])]).how == "outputs negated"


def test_rolling_moves_samples_or_else_positions():
    batch, single, number = torch.arange(6).reshape(3, 2), torch.arange(3)[None], 7
    moved = rolled([batch, single, number])
    assert torch.equal(moved[0], batch[[2, 0, 1]])
    assert torch.equal(moved[1], torch.tensor([[2, 0, 1]]))
    assert moved[2] == 7
