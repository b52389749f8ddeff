"""Records of units made from a program: what they show is what the program computes."""

import html

import numpy as np
import planted_language as planted
import pytest
import torch

from pellucid.data.corpus import Corpus, CorpusParts
from pellucid.dictionaries.dictionary import Dictionary, TopK
from pellucid.dictionaries.install import install
from pellucid.errors import BadInput
from pellucid.ir.graph import Node, Ref, Weight
from pellucid.ir.interpret import run_functions
from pellucid.ir.units import parse_site
from pellucid.reports.unit_pages import write_unit_pages
from pellucid.words.gathered import AFTER, BEFORE, acts_of, describe_units, site_units
from pellucid.words.labels.agreement import agreement
from pellucid.words.labels.labelset import LabelSet
from pellucid.words.labels.language import Condition, Label, Rule
from pellucid.words.labels.lexicon import survey
from pellucid.words.links import links_of

LATENTS = 10


def corpus(windows, seed, context=40):
    ids = np.random.default_rng(seed).integers(0, planted.VOCABULARY, (windows, context)).astype(np.int32)
    return Corpus(ids, tuple(f" w{i}" for i in range(planted.VOCABULARY)))


def dictionary(seed, kind="transcoder"):
    make = torch.Generator().manual_seed(seed)
    width = planted.WIDTH
    return Dictionary(
        kind, TopK(3), torch.randn(LATENTS, width, generator=make), torch.zeros(LATENTS),
        torch.randn(LATENTS, width, generator=make), torch.zeros(width),
    )  # fmt: skip


@pytest.fixture(scope="module")
def program():
    made = planted.language_program(layers=2)
    for layer in range(2):
        made = install(made, f"layers.{layer}.mlp", dictionary(layer))
    return made


def labels_of(site, lexicon, units=LATENTS):
    rules = [(Rule(2.0, (Condition("current", (unit,)),)), Rule(0.0, ())) for unit in range(units)]
    return LabelSet(str(site), tuple(Label(rule, lexicon) for rule in rules), lexicon)


def latents(program, site, ids):
    """The same by a run of its own."""
    seen = {}
    run_functions(
        program, [torch.from_numpy(ids.astype(np.int64))], "weights",
        watch_values={site.function: lambda name, value: seen.setdefault(name, value)},
    )  # fmt: skip
    found = seen[site.value].numpy().copy()
    found[:, 0] = 0
    return found


def test_records_are_what_the_program_computes(program):
    site = parse_site(program, "layers.1.mlp.dictionary:latents")
    text, held = corpus(9, 0), corpus(6, 1)
    labels = labels_of(site, survey(text))
    scores = agreement(labels, held.ids, acts_of(program, site, held))
    units = site_units(site, labels, scores, text, acts_of(program, site, text), top=4, random=2)
    real = latents(program, site, text.ids)
    assert [unit.name for unit in units] == [f"{site}[{i}]" for i in range(LATENTS)]
    for unit in units:
        strong = real[:, :, unit.index]
        assert unit.density == pytest.approx((strong[:, 1:] != 0).mean())
        assert unit.r == scores.own[unit.index]
        assert unit.label == str(labels.labels[unit.index])
        tops = [one for one in unit.contexts if one.how == "top"]
        best = np.sort(strong.max(axis=1))[::-1][:4]
        assert [max(one.activations) for one in tops] == pytest.approx([x for x in best if x > 0])
        assert len([one for one in unit.contexts if one.how == "random"]) == 2
        for one in unit.contexts:
            span = slice(one.start, one.start + len(one.pieces))
            assert one.start >= 1
            assert len(one.pieces) <= BEFORE + 1 + AFTER
            np.testing.assert_array_equal(one.activations, strong[one.window, span])
            ids = text.ids[one.window, span]
            assert one.pieces == tuple(text.pieces[i] for i in ids)
            assert one.predicted == tuple(2.0 * (ids == unit.index))


def test_all_sites_with_scores_from_verify(program):
    parts = CorpusParts(corpus(2, 2), corpus(2, 3), corpus(5, 4), corpus(6, 5))
    lexicon = survey(parts.fit)
    sets = [labels_of(f"layers.{layer}.mlp.dictionary:latents", lexicon) for layer in range(2)]
    units = list(describe_units(program, sets, parts))
    site = parse_site(program, sets[0].site)
    scores = agreement(sets[0], parts.verify.ids, acts_of(program, site, parts.verify))
    np.testing.assert_array_equal([unit.r for unit in units[:LATENTS]], scores.own)
    assert {unit.site for unit in units} == {labels.site for labels in sets}
    assert all(len(unit.outgoing) == 5 and not unit.incoming for unit in units[:LATENTS])
    assert repr(list(describe_units(program, sets, parts))) == repr(units)


def test_labels_that_look_at_nothing_have_no_score(program):
    parts = CorpusParts(corpus(2, 2), corpus(2, 3), corpus(5, 4), corpus(6, 5))
    lexicon = survey(parts.fit)
    flat = LabelSet("layers.0.mlp.dictionary:latents", (Label((Rule(0.5, ()),), lexicon),) * LATENTS, lexicon)
    units = list(describe_units(program, [flat], parts))
    assert all(np.isnan(unit.r) and np.isnan(unit.shuffled) for unit in units)
    assert any(unit.contexts for unit in units)


def test_links_are_the_largest_products(program):
    links = links_of(program)
    first, second = links
    written = program.weights["layers.0.mlp.written.decoder"]
    read = program.weights["layers.1.mlp.dictionary.encoder"]
    strength = (read @ written.T).numpy()
    for unit in range(LATENTS):
        best = np.argsort(-np.abs(strength[unit]))[:5]
        assert [link.name for link in links[second].incoming[unit]] == [f"{first}[{i}]" for i in best]
        assert [link.strength for link in links[second].incoming[unit]] == pytest.approx(strength[unit][best])
        best = np.argsort(-np.abs(strength[:, unit]))[:5]
        assert [link.name for link in links[first].outgoing[unit]] == [f"{second}[{i}]" for i in best]
    assert not any(links[first].incoming)
    assert not any(links[second].outgoing)


def test_gains_of_a_norm_count(program):
    plain = links_of(program)
    entry = program["network"].readings[0]
    call = next(node for node in entry.body.nodes if node.function == "layers.1.mlp")
    norm = Node(("normed",), "rms_norm", (call.args[0], Weight("gains"), 1e-5))
    nodes = [*entry.body.nodes]
    at = nodes.index(call)
    nodes[at : at + 1] = [norm, call.with_changes(args=(Ref("normed"),))]
    changed = replace_entry(program, entry, tuple(nodes))
    second = list(plain)[1]
    gains = changed.weights["gains"]
    strength = (
        (changed.weights["layers.1.mlp.dictionary.encoder"] * gains) @ program.weights["layers.0.mlp.written.decoder"].T
    ).numpy()
    found = links_of(changed)[second].incoming
    for unit in range(LATENTS):
        assert found[unit][0].strength == pytest.approx(strength[unit][np.abs(strength[unit]).argmax()])
    assert found != plain[second].incoming


def replace_entry(program, entry, nodes):
    import dataclasses

    body = dataclasses.replace(entry.body, nodes=nodes)
    network = dataclasses.replace(program["network"], readings=(dataclasses.replace(entry, body=body),))
    gains = torch.linspace(0.1, 3.0, planted.WIDTH)
    return dataclasses.replace(
        program,
        functions={**program.functions, "network": network},
        weights={**program.weights, "gains": gains},
        values={**program.values, "normed": program.values["x"]},
    )


def test_autoencoders_read_nothing_from_the_stream():
    made = install(planted.language_program(), "layers.0.mlp", dictionary(0))
    made = install(made, "layers.1.mlp", dictionary(1, "autoencoder"))
    first, second = links_of(made)
    assert not any(links_of(made)[second].incoming)
    assert not any(links_of(made)[first].outgoing)
    assert links_of(planted.language_program()) == {}


def test_one_label_and_score_for_each_unit(program):
    site = parse_site(program, "layers.0.mlp.dictionary:latents")
    text = corpus(5, 0)
    labels = labels_of(site, survey(text))
    scores = agreement(labels, text.ids, acts_of(program, site, text))
    with pytest.raises(BadInput, match="10, but 9 labels"):
        site_units(site, labels_of(site, survey(text), 9), scores, text, acts_of(program, site, text))


def test_labels_that_cite_heads_are_shown_as_they_are_written(program, tmp_path):
    site = parse_site(program, "layers.0.mlp.dictionary:latents")
    text, held = corpus(5, 0), corpus(6, 1)
    lexicon = survey(text)
    rules = (Rule(2.0, (Condition("head 0.1", (3,)),)), Rule(0.0, ()))
    labels = LabelSet(str(site), (Label(rules, lexicon),) * LATENTS, lexicon)
    looks, elsewhere = ({"head 0.1": np.zeros(part.ids.shape, dtype=np.int64)} for part in (text, held))
    scores = agreement(labels, held.ids, acts_of(program, site, held), given=elsewhere)
    units = site_units(site, labels, scores, text, acts_of(program, site, text), given=looks)
    write_unit_pages(units, tmp_path, "planted")
    (page,) = (tmp_path / "units").glob("000-*.html")
    assert "head 0.1" in units[0].label
    assert html.escape(units[0].label, quote=False).replace('"', "&#34;") in page.read_text()
