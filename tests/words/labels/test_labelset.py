"""Sets of labels: the same as reading the rules one by one, and files that bring them back."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pellucid.errors import BadInput
from pellucid.words.labels.labelset import LabelSet, load_labels, save_labels
from pellucid.words.labels.language import Condition, Label, Rule
from pellucid.words.labels.lexicon import Lexicon
from pellucid.words.labels.slots import SLOTS, find_slot, read_slots

PIECES = ("<s>", *(f" w{i}" for i in range(20)), ".", "�", "�", "\n", '"')
LEXICON = Lexicon(PIECES, 0, (1, 2), {"low": (1, 2, 3), 'odd "> \n': (4, 25)})
IDS = np.random.default_rng(0).integers(0, len(PIECES), (6, 40))


def some_labels(units, seed=0):
    """Labels whose rules share conditions, repeat them and contradict them."""
    rng = np.random.default_rng(seed)
    tokens = len(PIECES) + 1

    def condition():
        name = str(rng.choice([*SLOTS]))
        slot = find_slot(name)
        most = {"token": tokens, "pair": 2 * tokens, "class": len(slot.classes)}[slot.kind]
        codes = tuple(sorted(rng.choice(most, rng.integers(1, min(most, 9)), replace=False).tolist()))
        return Condition(
            name, codes, ("low",) if slot.kind == "token" and rng.random() < 0.3 else (), rng.random() < 0.8
        )

    def label():
        rules, path = [], ()
        for value in range(rng.integers(0, 8)):
            path = (*path[: rng.integers(0, len(path) + 1)], *(condition() for _ in range(rng.integers(1, 3))))
            rules.append(Rule(float(value + 1), path))
            if rng.random() < 0.3:
                rules.append(Rule(float(-value - 1), path[:1]))
        return Label((*rules, Rule(0.0)), LEXICON)

    return LabelSet("site", tuple(label() for _ in range(units)), LEXICON)


def one_by_one(label, ids):
    """The place of the first rule that holds at each position, straight from the definition."""
    slots = read_slots(ids, LEXICON)
    found = np.full(ids.shape, -1)
    for place, rule in enumerate(label.rules):
        holds = found < 0
        for c in rule.conditions:
            holds &= np.isin(slots[c.slot], c.members(LEXICON)) == c.within
        found[holds] = place
    return found.ravel()


def test_leaves_are_those_of_the_rules_one_by_one():
    labels = some_labels(40)
    leaves = labels.leaf_of(labels.read(IDS))
    assert leaves.shape == (40, IDS.size)
    for unit, label in enumerate(labels.labels):
        assert (leaves[unit] == one_by_one(label, IDS)).all()
    assert len(np.unique(leaves)) > 5


def test_predictions_are_the_values_of_leaves():
    labels = some_labels(20)
    said = labels.predict(IDS)
    assert said.dtype == np.float32
    for unit, label in enumerate(labels.labels):
        values = np.array([rule.value for rule in label.rules], np.float32)
        assert (said[unit].ravel() == values[one_by_one(label, IDS)]).all()
        assert (label.predict(IDS) == said[unit]).all()


def test_a_label_without_conditions_says_one_thing():
    labels = LabelSet("site", (Label((Rule(1.5),), LEXICON),), LEXICON)
    assert (labels.predict(IDS) == 1.5).all()


def test_other_values_at_the_same_leaves():
    labels = some_labels(10)
    doubled = labels.with_values(labels.values * 2)
    assert (doubled.predict(IDS) == 2 * labels.predict(IDS)).all()
    with pytest.raises(BadInput, match="shape"):
        labels.with_values(labels.values[:, :1])


def test_labels_survive_their_file(tmp_path):
    labels = some_labels(30)
    save_labels(labels, tmp_path / "labels.json")
    back = load_labels(tmp_path / "labels.json")
    assert back == labels
    assert back.lexicon == LEXICON
    save_labels(back, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "labels.json").read_bytes()
    assert len((tmp_path / "labels.json").read_text().splitlines()) == 33


def test_bad_files_are_refused(tmp_path):
    file = tmp_path / "labels.json"
    save_labels(some_labels(2), file)
    good = json.loads(file.read_text())
    for text in ["", "[]", "{", json.dumps({**good, "format": "x"}), json.dumps({**good, "labels": ["1"]}),
                 json.dumps({**good, "labels": []}), json.dumps({**good, "clusters": 3}),
                 json.dumps({**good, "function_words": [999]}), json.dumps({**good, "pieces": ["a"]})]:  # fmt: skip
        file.write_text(text)
        with pytest.raises(BadInput) as error:
            load_labels(file)
        assert "\n" not in str(error.value)
    with pytest.raises(BadInput):
        load_labels(tmp_path / "none.json")


def test_slots_that_were_not_read_are_asked_for():
    labels = some_labels(10)
    with pytest.raises(BadInput, match="not read"):
        labels.leaf_of({})
