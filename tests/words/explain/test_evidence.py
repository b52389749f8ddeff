"""Evidence from arrays, and what the questions show of it."""

import numpy as np
import pytest

from pellucid.errors import BadInput
from pellucid.words.explain.evidence import (
    Context,
    InterfaceEvidence,
    ModuleEvidence,
    UnitEvidence,
    fired,
    unit_evidence,
)
from pellucid.words.explain.prompts import explain_question

PIECES = tuple(f" w{i}" for i in range(50))


def planted(windows=60, context=48, seed=0):
    """A unit that is active on token 7, by how far into the window it stands."""
    ids = np.random.default_rng(seed).integers(0, 50, (windows, context)).astype(np.int32)
    ids[: windows // 4][ids[: windows // 4] == 7] = 8
    return ids, (ids == 7) * np.linspace(0.1, 1.0, context, dtype=np.float32)


def test_bands_hold_peaks_in_order_and_silent_contexts_are_silent():
    ids, activations = planted()
    found = unit_evidence("u", ids, PIECES, activations, each=3, silent=2)
    assert [band for band, _ in found.bands] == ["strongest", "middle", "weak"]
    tops = [[max(context.strengths) for context in contexts] for _, contexts in found.bands]
    assert [len(one) for one in tops] == [3, 3, 3]
    assert min(tops[0]) >= max(tops[1]) >= min(tops[1]) >= max(tops[2]) > 0
    assert max(tops[0]) == 10
    assert len(found.silent) == 2
    assert all(" w7" not in context.pieces for context in found.silent)
    for _, contexts in found.bands:
        for context in contexts:
            assert {piece for piece, s in zip(context.pieces, context.strengths, strict=True) if s} == {" w7"}
    assert found.share == pytest.approx((activations[:, 1:] > 0).mean())
    assert found == unit_evidence("u", ids, PIECES, activations, each=3, silent=2)


def test_position_zero_is_left_out():
    ids, activations = planted()
    activations[:, 0] = 1000.0
    found = unit_evidence("u", ids, PIECES, activations)
    assert max(max(context.strengths) for context in found.bands[0][1]) == 10
    assert found == unit_evidence("u", ids, PIECES, np.where(np.arange(48) == 0, 0, activations))


@pytest.mark.parametrize(("spoil", "why"), [
    (lambda a: a[:, :-1], "capture them together"),
    (lambda a: np.where(a > 0, np.inf, a), "not finite"),
    (lambda a: a * 0, "never active"),
    (lambda a: -a, "never active"),
])  # fmt: skip
def test_bad_activations(spoil, why):
    ids, activations = planted()
    with pytest.raises(BadInput, match=why):
        unit_evidence("u", ids, PIECES, spoil(activations))


def test_a_unit_that_is_active_in_every_window_still_has_silent_stretches():
    ids, _ = planted()
    ids[ids == 7] = 8
    ids[:, 40] = 7
    found = unit_evidence("u", ids, PIECES, (ids == 7).astype(np.float32))
    assert len(found.silent) == 2
    assert all(max(context.strengths) == 0 for context in found.silent)


def test_fired_keeps_sparse_units_and_turns_neurons():
    sparse = np.array([[0, 0, 0, 2.0], [0, 0, 1.0, 0]])
    assert fired(sparse) is sparse
    random = np.random.default_rng(0)
    neuron = random.normal(size=(50, 100))
    neuron[:, 30] = -8 + random.normal(size=50)
    active = fired(neuron)
    assert (active >= 0).all()
    assert (active > 0).mean() == pytest.approx(0.05, abs=0.002)
    assert active[:, 30].mean() > 4


def test_a_question_shows_all_that_is_known_of_a_unit():
    context = Context(("A", " red", " *", " fox"), (0, 3, 0, 10))
    unit = UnitEvidence(
        "u", (("strongest", (context,)),), (Context((" no", "thing"), (0, 0)),), 0.01, (("layer 0 colours", -0.5),),
        (" hen",), (" box",), "looks at the token before",
    )  # fmt: skip
    message = explain_question(unit).messages[-1][1]
    for line in (
        "- A **red**(3) \\* **fox**(10)", "- nothing", 'marked tokens: " red", " fox"', "- layer 0 colours (-0.5)",
        'makes more likely: " hen"', 'makes less likely: " box"', "attention rule: looks at the token before",
    ):  # fmt: skip
        assert line in message.splitlines()


def test_questions_about_modules_and_interfaces():
    module = ModuleEvidence(
        "m", (("m.a", "adds"), ("m.b", "takes")), "def f(x): return x", (("i", "digits"),), (("o", "sums"),)
    )
    message = explain_question(module).messages[-1][1]
    for line in ("- m.a: adds", "- m.b: takes", "- i: digits", "- o: sums", "code: def f(x): return x"):
        assert line in message.splitlines()
    interface = InterfaceEvidence("i", (("m.a", "adds"),), (("n", "shows"),), 12, (Context(("x",), (4,)),))
    message = explain_question(interface).messages[-1][1]
    for line in ("interface i, 12 values for each token", "- m.a: adds", "- n: shows", "- **x**(4)"):
        assert line in message.splitlines()
    assert set(explain_question(module).form.model_json_schema()["required"]) == {"key", "name", "label"}


def test_many_members_are_counted_not_shown():
    module = ModuleEvidence("m", tuple((f"m.{i}", "adds") for i in range(100)))
    message = explain_question(module).messages[-1][1]
    assert "- and 76 more" in message
    assert "m.50" not in message
