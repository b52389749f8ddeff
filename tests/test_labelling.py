"""Labels of latents from an endpoint: what is kept, what is missing, what is refused before anything is begun."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from endpoints import asked_in, closed_port, key_in, labelled, replying, said, serving
from planted_latents import LATENTS, PIECES, latent_program, random_corpus

from pellucid.emitters.files import emit
from pellucid.errors import BadInput
from pellucid.ir.units import parse_unit, sites
from pellucid.labelling import EXPLANATIONS, explain_latents, incomplete, labeller_at
from pellucid.reports.unit_terminal import unit_text
from pellucid.words.described import PLACE, DescribedUnit, write_units
from pellucid.words.judged import JUDGED, read_judged
from pellucid.words.labels.labelset import LabelSet, save_labels
from pellucid.words.labels.lexicon import Lexicon
from pellucid.words.labels.parser import parse_label


@pytest.fixture
def program():
    return latent_program()


@pytest.fixture
def corpus():
    return random_corpus()


def answered(body):
    """A label of its own for every unit; a judge that says yes to every second context."""
    asked = re.search(r"answers\": \[(\d+) numbers", asked_in(body))
    if asked is None:
        return labelled(body, f"what {key_in(body)} is")
    return json.dumps({"key": key_in(body), "answers": [place % 2 for place in range(int(asked[1]))]})


def recorded(program, output):
    """The records of all latents, with their trees in the files that describe keeps."""
    site = sites(program, "latents")[0]
    text = '1 where current in {" w3", " w5"}; 0 otherwise'
    (output / "words" / "labels").mkdir(parents=True)
    labels = LabelSet(str(site), (parse_label(text, Lexicon(PIECES)),) * LATENTS, Lexicon(PIECES))
    save_labels(labels, output / "words" / "labels" / "layers.1.mlp.json")
    write_units([DescribedUnit(str(site[i]), text, "tree", 0.5, 0.0, 0.1) for i in range(LATENTS)], output / PLACE)


def test_labels_are_kept_and_nothing_is_asked_twice(program, corpus, tmp_path):
    output = tmp_path / "out"
    emit(program, output)
    with serving(replying(answered)) as (address, server):
        first = explain_latents(program, corpus, output, labeller_at(address, "m", output), count=4)
        calls = len(server.requests)
        kept = (output / PLACE / JUDGED).read_bytes()
        again = explain_latents(program, corpus, output, labeller_at(address, "m", output), count=4)
        assert calls == 1 + 4 + 4 * 2 * 2
        assert len(server.requests) == calls + 1
    rows = [json.loads(line) for line in (output / "words" / EXPLANATIONS).read_text().splitlines()]
    assert len({row["part"] for row in rows}) == len({row["label"] for row in rows}) == 4
    assert [row["label"] for row in rows] == [one.text for one in first]
    assert (repr(first), kept) == (repr(again), (output / PLACE / JUDGED).read_bytes())
    assert incomplete(first) == 0
    for label in first:
        assert [(score.how, score.missing) for score in label.scores] == [("detection", 0), ("fuzzing", 0)]
        assert all(0 <= score.shuffled <= 1 for score in label.scores)


def test_tree_and_model_stand_beside_each_other_on_page_terminal_and_file(program, corpus, tmp_path):
    output = tmp_path / "out"
    emit(program, output)
    recorded(program, output)
    with serving(replying(answered)) as (address, _):
        explain_latents(program, corpus, output, labeller_at(address, "m<b>", output), count=4)
    judged = read_judged(output / PLACE)
    assert len(judged) == 4
    assert all([one.kind for one in labels] == ["tree", "language model"] for labels in judged.values())
    assert all([score.how for score in one.scores] == ["detection", "fuzzing"] for x in judged.values() for one in x)
    (page,) = (output / "units").glob("000-*.html")
    asked = [labels[1] for labels in judged.values()]
    assert all(label.text in page.read_text() for label in asked)
    assert "m&lt;b&gt;" in page.read_text()
    shown = unit_text(output, parse_unit(program, asked[0].unit)).plain
    assert asked[0].text in shown
    assert "label by pellucid (tree)" in shown
    assert "with another unit's label" in shown.partition("label by m<b>")[2]


def test_a_cap_leaves_labels_missing_and_a_second_run_goes_on(program, corpus, tmp_path):
    output = tmp_path / "out"
    emit(program, output)
    recorded(program, output)
    said = []
    with serving(replying(answered)) as (address, _):
        asker = labeller_at(address, "m", output, max_calls=4)
        first = explain_latents(program, corpus, output, asker, count=4, progress=said.append)
        assert asker.tally.calls == 4
        assert any("20 calls" in line for line in said), said
        assert sum(label.text is None for label in first) == 1
        assert incomplete(first) == 4
        (lost,) = [label for label in first if label.text is None]
        assert "cap of 4 calls" in unit_text(output, parse_unit(program, lost.unit)).plain
        second = explain_latents(program, corpus, output, labeller_at(address, "m", output), count=4)
    assert incomplete(second) == 0
    assert all(one.text == two.text for one, two in zip(first, second, strict=True) if one.text is not None)


def test_a_judge_that_never_answers_leaves_scores_unknown(program, corpus, tmp_path):
    output = tmp_path / "out"
    emit(program, output)

    def labels_only(handler, body):
        said(handler, answered(body)) if "answers" not in asked_in(body) else said(handler, "I do not know.")

    with serving(labels_only) as (address, _):
        found = explain_latents(program, corpus, output, labeller_at(address, "m", output), count=3)
    assert incomplete(found) == 3
    assert all(score.contexts == 0 and np.isnan(score.value) for one in found for score in one.scores)


def test_an_endpoint_that_is_down_is_told_before_anything_is_begun(tmp_path):
    with pytest.raises(BadInput, match="start it"):
        labeller_at(f"http://127.0.0.1:{closed_port()}/v1", "m", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_more_latents_than_are_active_are_refused(program, corpus, tmp_path):
    output = tmp_path / "out"
    emit(program, output)
    with serving(replying(labelled)) as (address, _), pytest.raises(BadInput, match="are active"):
        explain_latents(program, corpus, output, labeller_at(address, "m", output), count=LATENTS + 1)
