"""Capture against brute force; killed, full or foreign: it goes on, or says why not."""

import dataclasses
import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from planted_language import HEADS, HIDDEN, VOCABULARY, language_program

from pellucid.data.activations import files
from pellucid.data.activations.capture import capture, one_shard
from pellucid.data.activations.dense import dense
from pellucid.data.activations.manifest import Wanted
from pellucid.data.activations.store import Store
from pellucid.data.activations.summary import nothing_seen
from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput, CannotRun
from pellucid.ir.units import sites

WINDOWS, CONTEXT = 26, 9
WANTED = Wanted(top=3, strata=2, per_stratum=2, random=4, kept=8, sample=50, together=2, shard=6, seed=5)
PIECES = tuple(map(str, range(VOCABULARY)))


def planted():
    program = language_program()
    ids = np.random.default_rng(1).integers(0, VOCABULARY, (WINDOWS, CONTEXT)).astype(np.int32)
    return program, Corpus(ids, PIECES), (*sites(program, "mlp"), *sites(program, "heads"))


@pytest.fixture(scope="module")
def given():
    torch.set_num_threads(1)
    return planted()


@pytest.fixture(scope="module")
def store(given, tmp_path_factory):
    return capture(*given, tmp_path_factory.mktemp("whole") / "store", WANTED)


@pytest.fixture(scope="module")
def values(given):
    return dict(dense(*given))


def _bytes(directory):
    return {file.name: file.read_bytes() for file in sorted(Path(directory).iterdir())}


def test_values_are_those_of_the_network(given, values):
    program, corpus, chosen = given
    ids = torch.from_numpy(corpus.ids.astype(np.int64))
    x = program.weights["table"][ids]
    neurons, heads = {}, {}
    for layer in range(2):
        q = x.unflatten(-1, (HEADS, -1)).transpose(1, 2)
        mixed = torch.nn.functional.scaled_dot_product_attention(q, q, q, is_causal=True, scale=0.5)
        heads[layer] = mixed.norm(dim=-1).transpose(1, 2)
        x = x + mixed.transpose(1, 2).flatten(-2) @ program.weights[f"o.{layer}"].T
        neurons[layer] = (x @ program.weights[f"up.{layer}"].T).relu()
        x = x + neurons[layer] @ program.weights[f"down.{layer}"].T
    for site, wanted in zip(chosen, (*neurons.values(), *heads.values()), strict=True):
        np.testing.assert_allclose(values[site], wanted.numpy(), rtol=1e-4, atol=1e-5)


def test_moments_are_those_of_all_positions_but_the_first(store, values):
    for site, x in values.items():
        rest = x[:, 1:].reshape(-1, site.units).astype(np.float64)
        found = store.moments(site)
        assert found.count == len(rest)
        np.testing.assert_allclose(found.mean, rest.mean(0))
        np.testing.assert_allclose(found.variance, rest.var(0), rtol=1e-6)
        np.testing.assert_array_equal(found.low, rest.min(0))
        np.testing.assert_array_equal(found.high, rest.max(0))
        np.testing.assert_allclose(found.active, (rest > 0).mean(0))


def test_quantiles_are_off_in_rank_by_no_more_than_is_said(store, values):
    assert 0.19 < store.quantile_error < 0.2
    for site, x in values.items():
        rest = x[:, 1:].reshape(-1, site.units)
        for level, name in ((0.25, "q25"), (0.5, "q50"), (0.95, "q95")):
            found = store.moments(site).quantiles[name]
            below, at_most = (rest < found).mean(0), (rest <= found).mean(0)
            assert (below <= level + store.quantile_error).all()
            assert (at_most >= level - store.quantile_error).all()


def test_quantiles_are_exact_where_every_position_is_sampled(given, values, tmp_path):
    whole = capture(*given, tmp_path / "store", dataclasses.replace(WANTED, sample=10_000))
    assert whole.quantile_error == 0.0
    for site, x in values.items():
        rest = x[:, 1:].reshape(-1, site.units)
        np.testing.assert_allclose(whole.moments(site).quantiles["q75"], np.quantile(rest, 0.75, axis=0), rtol=1e-6)


def test_contexts_hold_the_activation_at_their_position(store, values):
    for site, x in values.items():
        for index, contexts in store.all_contexts(site).items():
            for context in contexts:
                assert context.activation == x[context.window, context.token, index]
                assert context.token >= 1


def test_top_contexts_are_the_highest_of_different_windows(store, values):
    for site, x in values.items():
        for index in range(site.units):
            found = store.contexts(site[index], "top")
            best = np.sort(x[:, 1:, index].max(1))[::-1][:3]
            assert [context.activation for context in found] == best[best > x[:, 1:, index].min()].tolist()
            assert len({context.window for context in found}) == len(found)
            assert [context.rank for context in found] == list(range(len(found)))


def test_strata_go_from_the_weakest_active_to_the_strongest(store, values):
    site = next(iter(values))
    x = values[site]
    for index in range(site.units):
        found = store.contexts(site[index], "quantile")
        assert len(found) == min(4, (x[:, 1:, index] > 0).sum())
        assert all(context.activation > 0 for context in found)
        assert [c.activation for c in found] == sorted(c.activation for c in found)
        if len(found) == 4:
            assert [context.stratum for context in found] == [0, 0, 1, 1]


def test_random_contexts_are_distinct_and_differ_between_units(store, values):
    site = next(iter(values))
    found = [tuple((c.window, c.token) for c in store.contexts(site[i], "random")) for i in range(site.units)]
    assert all(len(set(places)) == 4 for places in found)
    assert len(set(found)) > site.units // 2


def test_nothing_else_is_stored(store):
    names = {name.partition("-")[0] for name in _bytes(store.directory)}
    assert names == {"manifest.json", "units", "contexts"}
    assert store.query("select count(*) as n from contexts").to_pylist()[0]["n"] <= (2 * HIDDEN + 2 * HEADS) * 11


def test_the_same_call_again_gives_the_same_store(given, store):
    before = _bytes(store.directory)
    assert capture(*given, store.directory, WANTED, lambda done, of: pytest.fail("captured again")) == store
    assert _bytes(store.directory) == before


def test_shards_can_be_taken_alone_and_put_together(given):
    program, corpus, chosen = given
    units = sum(site.units for site in chosen)
    alone, running = (nothing_seen(units, WANTED.top, WANTED.kept) for _ in range(2))
    for shard in range(-(-WINDOWS // WANTED.shard)):
        alone.merge(one_shard(program, corpus, chosen, WANTED, shard)[0])
        running.merge(one_shard(program, corpus, chosen, WANTED, shard, running)[0])
    for field in ("total", "squares", "low", "high", "active", "count"):
        np.testing.assert_array_equal(getattr(alone, field), getattr(running, field))
    for field in ("top_at", "kept_at"):
        np.testing.assert_array_equal(np.sort(getattr(alone, field)), np.sort(getattr(running, field)))


# ---- killed, and the disk full


def test_a_run_stopped_at_any_file_goes_on_and_ends_with_the_same_bytes(given, store, tmp_path, monkeypatch):
    replace, left, directory = os.replace, [0], tmp_path / "store"

    def dying(source, target):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", dying)
    for run in range(12):
        left[0] = run
        try:
            capture(*given, directory, WANTED)
            break
        except KeyboardInterrupt:
            if not (directory / "manifest.json").is_file():
                continue
            with pytest.raises(BadInput, match="the capture ended after"):
                Store.open(directory)
    assert run > 5
    assert _bytes(directory) == _bytes(store.directory)


KILLED = """
import os, signal, sys
sys.path[:0] = {path!r}
import torch
torch.set_num_threads(1)
from test_capture import WANTED, planted
from pellucid.data.activations.capture import capture
capture(*planted(), {directory!r}, WANTED, lambda done, of: done >= 12 and os.kill(os.getpid(), signal.SIGKILL))
"""


def test_a_killed_process_leaves_a_store_that_goes_on(given, store, tmp_path):
    here = Path(__file__).parent
    path = [str(here), str(here.parents[1])]
    script = KILLED.format(path=path, directory=str(tmp_path / "store"))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()[-500:]
    steps = []
    capture(*given, tmp_path / "store", WANTED, lambda done, of: steps.append(done))
    assert steps == [18, 24, 26]
    assert _bytes(tmp_path / "store") == _bytes(store.directory)


@pytest.mark.parametrize(("kind", "kept"), [("sample-00001", 6), ("state-00003", 12), ("contexts-00001", 26)])
def test_a_full_disk_is_one_line_and_what_was_done_is_kept(given, store, tmp_path, monkeypatch, kind, kept):
    write = files._write

    def full(file, tables):
        write(file, tables)
        if Path(file.name).stem == kind:
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files, "_write", full)
        with pytest.raises(BadInput, match=f"the disk is full; {kept} of 26 windows are kept") as caught:
            capture(*given, tmp_path / "store", WANTED)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "store").glob("*.part"))
    capture(*given, tmp_path / "store", WANTED)
    assert _bytes(tmp_path / "store") == _bytes(store.directory)


# ---- what is refused


def test_another_model_corpus_sites_or_options_are_refused(given, store):
    program, corpus, chosen = given
    other = dataclasses.replace(program, weights={**program.weights, "o.1": program.weights["o.1"] + 1e-6})
    for changed, says in (
        ((other, corpus, chosen, store.directory, WANTED), "another model"),
        ((program, corpus.rows(slice(1, None)), chosen, store.directory, WANTED), "another corpus"),
        ((program, corpus, chosen[1:], store.directory, WANTED), "other sites"),
        ((*given, store.directory, dataclasses.replace(WANTED, top=4)), "other options"),
    ):
        with pytest.raises(BadInput, match=f"holds activations of {says}"):
            capture(*changed)


def test_a_directory_of_something_else_is_refused(given, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BadInput, match="something else"):
        capture(*given, tmp_path, WANTED)
    with pytest.raises(BadInput, match="something else"):
        capture(*given, tmp_path / "mine.txt", WANTED)
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_a_damaged_state_is_refused(given, tmp_path):
    def stop(done, of):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        capture(*given, tmp_path / "store", WANTED, stop)
    state = next((tmp_path / "store").glob("state-*"))
    state.write_bytes(state.read_bytes()[:-100])
    with pytest.raises(BadInput, match="damaged or missing"):
        capture(*given, tmp_path / "store", WANTED)
    state.unlink()
    with pytest.raises(BadInput, match="damaged or missing"):
        capture(*given, tmp_path / "store", WANTED)


def test_another_vocabulary_no_sites_and_too_short_windows_are_refused(given, tmp_path):
    program, corpus, chosen = given
    for pieces in ((*PIECES, "more"), PIECES[:20]):
        wrong = Corpus(np.minimum(corpus.ids, 19), pieces)
        with pytest.raises(BadInput, match="the model's own tokenizer"):
            capture(program, wrong, chosen, tmp_path / "a", WANTED)
    with pytest.raises(BadInput, match="no sites"):
        capture(program, corpus, [], tmp_path / "a", WANTED)
    with pytest.raises(BadInput, match="none after the first 1"):
        capture(program, Corpus(corpus.ids[:, :1], PIECES), chosen, tmp_path / "a", WANTED)
    assert not list(tmp_path.iterdir())


def test_numbers_that_are_not_finite_are_refused(given, tmp_path):
    program, corpus, chosen = given
    weights = {**program.weights, "up.1": program.weights["up.1"].clone()}
    weights["up.1"][3, 0] = float("inf")
    with pytest.raises(CannotRun, match=r"site layers\.1\.mlp:hidden.*not finite"):
        capture(dataclasses.replace(program, weights=weights), corpus, chosen, tmp_path / "store", WANTED)


@pytest.mark.parametrize(
    ("changes", "says"),
    [({"top": 0}, "top=0 is too small"), ({"together": 4}, "no multiple"), ({"kept": 3}, "cannot fill")],
)
def test_options_that_contradict_each_other_are_refused(changes, says):
    with pytest.raises(BadInput, match=says):
        dataclasses.replace(WANTED, **changes)
