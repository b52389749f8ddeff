"""Patterns of rules whose tables are set by hand."""

import dataclasses

import numpy as np
import pytest
import torch
from words.heads.planted_heads import GRAMMAR, at_distance, related, rule, windows

from pellucid.errors import BadInput
from pellucid.words.heads.rule import TERMS, Heads, looks_at, table_shapes, term_masks

TEXT = np.array([[0, 2, 4, 3, 1, 2, 4, 7]], dtype=np.int32)


def test_a_pattern_is_causal_and_its_rows_sum_to_one():
    pattern = rule(seed=3).pattern(windows(7))
    assert pattern.dtype == np.float32
    assert pattern.shape == (7, 24, 24)
    np.testing.assert_allclose(pattern.sum(-1), 1, atol=1e-5)
    assert not np.triu(pattern, 1).any()


def test_no_table_looks_at_every_key_alike():
    pattern = rule().pattern(TEXT)
    np.testing.assert_allclose(pattern[0, 4, :5], 0.2, atol=1e-6)


def test_the_token_before():
    assert rule(**at_distance(1)).looks_at(TEXT)[0].tolist() == [0, 0, 1, 2, 3, 4, 5, 6]


def test_induction():
    assert rule(**related("after the same token")).pattern(TEXT)[0, 5].argmax() == 2


def test_a_pair_of_clusters():
    """From " Tim" (cluster 2) to " Ann" (cluster 3), and nowhere special from others."""
    row = GRAMMAR.query_slots["token"].start + 2
    column = GRAMMAR.key_slots["token"].start + 3
    found = rule(pairs={(row, column): 20.0}).pattern(TEXT)
    assert found[0, 5, 3] > 0.99
    np.testing.assert_allclose(found[0, 4, :5], 0.2, atol=1e-6)


def test_every_term_of_a_rule_changes_its_pattern():
    full = rule(seed=1)
    for term in TERMS:
        masks = term_masks(GRAMMAR, [other for other in TERMS if other != term])
        less = dataclasses.replace(full, tables={n: t * masks[n].numpy() for n, t in full.tables.items()})
        assert np.abs(less.pattern(TEXT) - full.pattern(TEXT)).max() > 1e-4, term


def test_terms_do_not_overlap():
    total = {name: torch.zeros(shape) for name, shape in table_shapes(GRAMMAR).items()}
    for term in TERMS:
        for name, mask in term_masks(GRAMMAR, [term]).items():
            total[name] += mask
    assert all(float(table.max()) == 1 for table in total.values())


def test_a_resting_head_looks_elsewhere_when_it_can():
    to_first = {"pairs": {(0, GRAMMAR.key_slots["nth"].start): 20.0}}
    assert not rule(**to_first).looks_at(TEXT).any()
    resting = rule(rests=True, **to_first).looks_at(TEXT)[0]
    assert resting[0] == 0
    assert resting[1:].all()


def test_heads_side_by_side_are_the_heads_alone():
    rules = [rule(head, seed=head) for head in range(3)]
    ids = windows(5)
    together = Heads.of(rules).pattern(torch.from_numpy(ids.astype(np.int64)))
    for head, one in enumerate(rules):
        np.testing.assert_allclose(together[:, head].numpy(), one.pattern(ids), atol=1e-6)
    np.testing.assert_array_equal(looks_at(rules, ids)[1], rules[1].looks_at(ids))


def test_some_queries_are_rows_of_the_pattern():
    heads, ids = Heads.of([rule(seed=0)]), torch.from_numpy(windows(3).astype(np.int64))
    queries = torch.tensor([[1, 5], [2, 9], [20, 23]])
    every = heads.pattern(ids)
    some = heads.pattern(ids, None, queries)
    for window in range(3):
        torch.testing.assert_close(some[window, 0], every[window, 0, queries[window]])


def test_gradients_reach_the_tables_and_no_others():
    heads = Heads.of([rule(seed=0), rule(1, seed=1)])
    tables = {name: table.clone().requires_grad_() for name, table in heads.tables.items()}
    heads.pattern(torch.from_numpy(TEXT.astype(np.int64)), tables)[:, 0, -1, 2].sum().backward()
    for table in tables.values():
        assert table.grad is not None
        assert table.grad[0].abs().max() > 0
        assert not table.grad[1].any()


def test_a_step_along_the_gradient_is_a_step_of_the_pattern():
    heads, ids = Heads.of([rule(seed=0)]), torch.from_numpy(TEXT.astype(np.int64))
    for name, table in heads.tables.items():
        leaf = table.clone().requires_grad_()
        weight = heads.pattern(ids, {**heads.tables, name: leaf})[0, 0, 6, 3]
        (gradient,) = torch.autograd.grad(weight, leaf)
        moved = table + 0.01 * gradient / gradient.norm()
        after = heads.pattern(ids, {**heads.tables, name: moved})[0, 0, 6, 3]
        assert float((after - weight).detach()) == pytest.approx(0.01 * float(gradient.norm()), rel=0.1)


def test_rules_survive_being_put_side_by_side():
    one = rule(4, seed=2, rests=True)
    (back,) = Heads.of([one]).rules()
    assert (back.function, back.head, back.rests, back.name) == ("f", 4, True, "f:4")
    assert all(np.array_equal(back.tables[name], one.tables[name]) for name in one.tables)


def test_bits_count_what_is_not_zero():
    assert rule(seed=0).bits > rule().bits > 0


def test_what_does_not_fit_together():
    with pytest.raises(BadInput, match="tables do not fit"):
        dataclasses.replace(rule(), tables={})
    with pytest.raises(BadInput, match="clusters do not fit"):
        dataclasses.replace(rule(), clusters=rule().clusters + 4)
    other = dataclasses.replace(rule(1), grammar=dataclasses.replace(GRAMMAR, ends=(1,)))
    with pytest.raises(BadInput, match="grammars differ"):
        Heads.of([rule(), other])
    with pytest.raises(BadInput, match="there are none"):
        Heads.of([])
    with pytest.raises(BadInput, match="outside the vocabulary"):
        rule().pattern(np.array([[0, 99]]))
