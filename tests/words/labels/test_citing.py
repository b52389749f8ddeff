"""Labels cite units of earlier MLPs by how much their labels say."""

import numpy as np
import pytest

from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput
from pellucid.words.hierarchy.composed import clause
from pellucid.words.labels.citing import citations, cited_units, levels
from pellucid.words.labels.labelset import LabelSet
from pellucid.words.labels.lexicon import survey
from pellucid.words.labels.parser import parse_label

PIECES = ("<s>", " a", " b", " c", " d")
IDS = np.array([[0, 1, 2, 3, 4, 1, 3]])
LEXICON = survey(Corpus(IDS.astype(np.int32), PIECES, 0))
FIRST = (
    '4 where current in {" a"}; 3 where current in {" b"}; 1.5 where current in {" c"}; 1 otherwise',
    "-1 otherwise",
)
SECOND = ('2 where unit 0.0 in {active, strong} and previous not in {"<s>"}; 0 otherwise', "0 otherwise")
THIRD = ("1 where unit 1.0 in {strong}; 0 where unit 0.1 in {quiet}; 5 otherwise",)


def labels(*lines):
    return LabelSet("planted", tuple(parse_label(line, LEXICON) for line in lines), LEXICON)


def test_a_level_is_a_share_of_the_most_that_a_label_can_say():
    assert levels(labels(*FIRST)).tolist() == [[2, 1, 1, 0], [0, 0, 0, 0]]


def test_labels_cite_labels_that_cite_labels():
    every = {0: labels(*FIRST), 1: labels(*SECOND), 2: labels(*THIRD)}
    given = citations(every, IDS)
    assert given["unit 0.0"].tolist() == [[0, 2, 1, 1, 0, 2, 1]]
    assert given["unit 1.0"].tolist() == [[0, 0, 2, 2, 0, 2, 2]]
    assert every[1].predict(IDS, given)[0].tolist() == [[0, 0, 2, 2, 0, 2, 2]]
    assert every[2].predict(IDS, given)[0].tolist() == [[0, 0, 1, 1, 0, 1, 1]]
    assert cited_units(every.values()) == {0: (0, 1), 1: (0,)}


def test_a_label_that_always_says_the_same_can_be_cited():
    every = {0: labels("2 otherwise"), 1: labels("1 where unit 0.0 in {strong}; 0 otherwise")}
    assert citations(every, IDS)["unit 0.0"].tolist() == [[2] * 7]


def test_what_cites_a_unit_is_written_as_it_is_read_and_told_in_a_sentence():
    label = labels(*SECOND).labels[0]
    assert parse_label(str(label), LEXICON) == label
    told = clause(label.rules[0].conditions[0], LEXICON)
    assert told == "what the label of unit 0.0 says is active or strong"


def test_only_labelled_units_of_earlier_mlps_can_be_cited():
    with pytest.raises(BadInput, match=r"cite unit 1\.0, which is no labelled unit of an earlier MLP"):
        citations({0: labels(*FIRST), 1: labels(*THIRD)}, IDS)
    with pytest.raises(BadInput, match=r"cite unit 0\.7"):
        citations({0: labels(*FIRST), 1: labels("1 where unit 0.7 in {quiet}; 0 otherwise")}, IDS)
    with pytest.raises(BadInput, match="nobody says what its label says"):
        labels(*SECOND).predict(IDS)
    with pytest.raises(BadInput, match="no slot is called 'unit x'"):
        parse_label("1 where unit x in {quiet}; 0 otherwise", LEXICON)
