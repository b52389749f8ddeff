"""A store answers for its units, by SQL too, and refuses what it does not have."""

import json

import numpy as np
import pytest
from planted_language import VOCABULARY, language_program

from pellucid.data.activations.capture import capture
from pellucid.data.activations.dense import dense
from pellucid.data.activations.excerpts import excerpts
from pellucid.data.activations.manifest import Wanted
from pellucid.data.activations.store import Store
from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput
from pellucid.ir.units import sites

PIECES = tuple(map(str, range(VOCABULARY)))


@pytest.fixture(scope="module")
def given():
    program = language_program()
    ids = np.random.default_rng(1).integers(0, VOCABULARY, (10, 7)).astype(np.int32)
    return program, Corpus(ids, PIECES), sites(program, "mlp")


@pytest.fixture(scope="module")
def store(given, tmp_path_factory):
    return capture(*given, tmp_path_factory.mktemp("store") / "s", Wanted(top=2, kept=20, together=2, shard=4))


def test_it_opens_with_its_model_and_corpus_only(given, store):
    program, corpus, _ = given
    assert Store.open(store.directory, program, corpus) == store
    assert Store.open(str(store.directory)) == store
    with pytest.raises(BadInput, match="of another model"):
        Store.open(store.directory, language_program(seed=1))
    with pytest.raises(BadInput, match="of another corpus"):
        Store.open(store.directory, program, corpus.rows([0]))


def test_units_are_asked_for_by_name(store, given):
    site = given[2][1]
    assert store.contexts(site[3]) == store.contexts("layers.1.mlp:hidden[3]")
    assert store.moments("layers.1.mlp:hidden").mean.shape == (site.units,)
    assert {context.how for context in store.contexts(site[3])} == {"top", "quantile", "random"}


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda store: store.moments("layers.7.mlp:hidden"), "was not captured; there are, for example"),
        (lambda store: store.contexts("layers.0.mlp:hidden[99]"), "use 0 to 11"),
        (lambda store: store.contexts("layers.0.mlp:hidden"), "not of the form"),
        (lambda store: store.query("select nothing from nowhere"), "nowhere"),
        (lambda store: store.query("select * from read_text('/etc/hostname')"), "disabled"),
        (lambda store: store.query("copy units to 'stolen.csv'"), "disabled"),
        (lambda store: store.query(""), "begin it with SELECT"),
    ],
)
def test_what_it_does_not_have_is_one_line(store, ask, says):
    with pytest.raises(BadInput, match=says) as caught:
        ask(store)
    assert "\n" not in str(caught.value)


def test_sql_sees_all_units_and_contexts(store):
    rows = store.query(
        "select u.site, u.unit, max(c.activation) = u.high as right from units u join contexts c using (site, unit)"
        " where c.how = 'top' group by u.site, u.unit, u.high"
    ).to_pylist()
    assert len(rows) > 20
    assert all(row["right"] for row in rows)


def test_what_is_no_store_is_refused(store, tmp_path):
    with pytest.raises(BadInput, match="no store of activations"):
        Store.open(tmp_path)
    good = json.loads((store.directory / "manifest.json").read_text())
    for broken in ("{", "[]", json.dumps({**good, "sites": 3}), json.dumps({**good, "format": "other"})):
        (tmp_path / "manifest.json").write_text(broken)
        with pytest.raises(BadInput, match="not a manifest of activations"):
            Store.open(tmp_path)
    (tmp_path / "manifest.json").write_text(json.dumps(good))
    with pytest.raises(BadInput, match="cannot be read"):
        Store.open(tmp_path).moments("layers.0.mlp:hidden")


def test_excerpts_are_what_stands_around_contexts(store, given):
    program, corpus, chosen = given
    values = dict(dense(*given))
    units = [chosen[1][3], chosen[0][2], chosen[1][5]]
    found = dict(excerpts(program, corpus, store, units, "quantile", before=2, after=1))
    assert set(found) == set(units)
    for unit, pieces in found.items():
        assert [piece.context for piece in pieces] == list(store.contexts(unit, "quantile"))
        for piece in pieces:
            at, end = piece.context, piece.start + len(piece.ids)
            assert (piece.start, end) == (max(0, at.token - 2), min(7, at.token + 2))
            np.testing.assert_array_equal(piece.ids, corpus.ids[at.window, piece.start : end])
            np.testing.assert_allclose(piece.activations, values[unit.site][at.window, piece.start : end, unit.index])


def test_excerpts_of_another_corpus_are_refused(store, given):
    program, corpus, chosen = given
    with pytest.raises(BadInput, match="another corpus"):
        list(excerpts(program, corpus.rows([0, 1]), store, [chosen[0][0]]))
