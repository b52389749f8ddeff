"""The primitives of the words reading say what labels and rules say by themselves."""

import numpy as np
import pytest
import torch

from pellucid.data.corpus import Corpus
from pellucid.ir.torch_words import always, label_leaves, label_values, looked_at, rule_pattern, slot_codes
from pellucid.words.heads.rule import HeadRule, Heads, looks_at, table_shapes
from pellucid.words.heads.scene import grammar_of
from pellucid.words.labels.labelset import LabelSet
from pellucid.words.labels.lexicon import survey
from pellucid.words.labels.parser import parse_label
from pellucid.words.labels.slots import SLOTS, read_slots
from pellucid.words.reading.arrays import label_tables, rule_arguments, traits_of

PIECES = (
    "<s>", " the", " a", "dog", " dog", " Tom", "my", " Lily", ".", "!", '"', ' "', "\n", ",", " ran", " and", "ning",
    " 3", "?", " said",
)  # fmt: skip


def corpus(windows: int = 12, context: int = 40) -> Corpus:
    ids = np.random.default_rng(3).integers(1, len(PIECES), (windows, context)).astype(np.int32)
    ids[:, 0] = 0
    ids[::2, 1::3] = 1
    ids[3, 17] = 0
    return Corpus(ids, PIECES, 0)


@pytest.mark.parametrize("name", SLOTS)
def test_every_slot_is_read_as_labels_read_it(name: str) -> None:
    text = corpus()
    lexicon = survey(text)
    assert lexicon.function_words, "no word is frequent enough for this to test anything"
    found = slot_codes(torch.from_numpy(text.ids).long(), traits_of(lexicon), (name,))[..., 0]
    wanted = read_slots(text.ids, lexicon, [name])[name]
    np.testing.assert_array_equal(found.numpy(), np.broadcast_to(wanted, text.ids.shape))


def test_a_head_shows_the_token_it_looks_at() -> None:
    text = corpus()
    places = np.random.default_rng(1).integers(0, 40, text.ids.shape)
    found = slot_codes(
        torch.from_numpy(text.ids).long(), traits_of(survey(text)), ("current", "head 1.0"), (torch.from_numpy(places),)
    )
    np.testing.assert_array_equal(found[..., 1].numpy(), np.take_along_axis(text.ids, places, 1))


def test_a_slot_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(ValueError, match="no slot is called 'weather'"):
        slot_codes(torch.zeros(1, 3, dtype=torch.long), traits_of(survey(corpus())), ("weather",))


LABELS = (
    '2.5 where current in {" the", " a"} and previous not in {","}; 1 where current in {" the"}; -0.5 otherwise',
    "0.25 otherwise",
    '1 where place in sentence in {2, 3}; 3 where previous+current in {" the" " dog"}; 0 otherwise',
    '4 where quoted in {yes} and current in {"dog"}; 5 where quoted in {yes} and current not in {"my"}; 6 otherwise',
)


def labels(text: Corpus) -> LabelSet:
    lexicon = survey(text)
    return LabelSet("f:latents", tuple(parse_label(line, lexicon) for line in LABELS), lexicon)


def test_leaves_and_values_are_those_of_the_labels() -> None:
    text = corpus()
    made = labels(text)
    ids = torch.from_numpy(text.ids).long()
    codes = slot_codes(ids, traits_of(made.lexicon), made.slots)
    leaves = label_leaves(codes, *label_tables(made).values())
    wanted = made.leaf_of(made.read(text.ids)).reshape(len(made), *text.ids.shape)
    np.testing.assert_array_equal(leaves.numpy(), np.moveaxis(wanted, 0, -1))
    assert len(np.unique(wanted[0])) == 3
    said = label_values(leaves, torch.from_numpy(made.values))
    np.testing.assert_array_equal(said.numpy(), np.moveaxis(made.predict(text.ids), 0, -1))


def test_patterns_are_those_of_the_rules() -> None:
    text = corpus()
    grammar, rng = grammar_of(text, clusters=5, listed=3), np.random.default_rng(0)
    rules = [
        HeadRule(
            "f", head, grammar, rng.integers(0, 5, (4, len(PIECES))).astype(np.uint8),
            {name: rng.normal(size=shape).astype(np.float32) for name, shape in table_shapes(grammar).items()},
            rests=head == 1,
        )
        for head in range(3)
    ]  # fmt: skip
    tensors, literals = rule_arguments(rules)
    found = rule_pattern(torch.from_numpy(text.ids).long(), *tensors.values(), *literals)
    wanted = Heads.of(rules).pattern(torch.from_numpy(text.ids).long())
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    looks = looks_at(rules, text.ids)
    for head, rule in enumerate(rules):
        places = looked_at(found, head, torch.from_numpy(text.ids).long(), 0 if rule.rests else -1)
        np.testing.assert_array_equal(places.numpy(), looks[head])


def test_constants_have_one_value_for_the_first_position() -> None:
    found = always(torch.zeros(2, 3, 4), torch.ones(4), torch.full((4,), 7.0))
    assert found[:, 0].eq(7).all()
    assert found[:, 1:].eq(1).all()
