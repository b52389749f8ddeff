"""Summaries against brute force, and parts that add up to the whole."""

import dataclasses

import numpy as np
import pytest

from pellucid.data.activations.summary import keys_of, nothing_seen, with_keys

WINDOWS, CONTEXT, UNITS, TOP, KEPT = 30, 11, 300, 4, 6


@pytest.fixture(scope="module")
def x():
    values = np.random.default_rng(0).standard_normal((WINDOWS, CONTEXT, UNITS)).astype(np.float32)
    values[:, :, 0] = 0.0
    values[:, :, 1] = np.maximum(values[:, :, 1] - 2.2, 0)
    values[:, :, 2] = 5.0
    return values


def _summed(x, first=1, start=0, before=None):
    seen = nothing_seen(UNITS, TOP, KEPT) if before is None else before.to_beat()
    for w in range(0, len(x), 5):
        places = np.arange(5 * CONTEXT).reshape(5, CONTEXT) + (start + w) * CONTEXT
        seen.add(x[w : w + 5], (start + w) * CONTEXT, keys_of(places, 3), first)
    return seen


def _sorted(summary):
    """Lists in an order of their own, the rest as it is."""
    found = {name.name: getattr(summary, name.name) for name in dataclasses.fields(summary)}
    for values, places in (("top", "top_at"), ("kept", "kept_at")):
        order = np.argsort(found[places], axis=1)
        found |= {name: np.take_along_axis(found[name], order, 1) for name in (values, places)}
    del found["kept_key"]
    return found


def _same(a, b, exact=True):
    for name, value in _sorted(a).items():
        if exact or name not in ("total", "squares"):
            np.testing.assert_array_equal(value, _sorted(b)[name], err_msg=name)
        else:
            np.testing.assert_allclose(value, _sorted(b)[name], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize("first", [0, 1, 3])
def test_figures_are_those_of_all_positions_but_the_first(x, first):
    seen = _summed(x, first)
    rest = x[:, first:].reshape(-1, UNITS).astype(np.float64)
    assert set(seen.count) == {len(rest)}
    np.testing.assert_allclose(seen.total, rest.sum(0), atol=1e-9)
    np.testing.assert_allclose(seen.squares, (rest**2).sum(0), rtol=1e-12)
    np.testing.assert_array_equal(seen.low, rest.min(0))
    np.testing.assert_array_equal(seen.high, rest.max(0))
    np.testing.assert_array_equal(seen.active, (rest > 0).sum(0))


def test_the_highest_are_one_of_each_window_and_equal_ones_the_earliest(x):
    seen = _summed(x)
    inside = x[:, 1:]
    for unit in (0, 1, 2, 17, 299):
        best = inside[:, :, unit].max(1)
        where = inside[:, :, unit].argmax(1) + 1
        order = np.lexsort((np.arange(WINDOWS), -best))[:TOP]
        wanted = {(float(best[w]), w * CONTEXT + int(where[w])) for w in order}
        assert set(zip(seen.top[unit].tolist(), seen.top_at[unit].tolist(), strict=True)) == wanted


def test_the_sample_is_of_active_positions_with_the_smallest_keys(x):
    seen = _summed(x)
    keys = keys_of(np.arange(WINDOWS * CONTEXT).reshape(WINDOWS, CONTEXT), 3)
    for unit in (0, 1, 2, 17):
        active = [(keys[w, t], w * CONTEXT + t) for w in range(WINDOWS) for t in range(1, CONTEXT) if x[w, t, unit] > 0]
        wanted = sorted(place for _, place in sorted(active)[:KEPT])
        places = seen.kept_at[unit]
        assert sorted(places[places >= 0].tolist()) == wanted
        assert all(x.reshape(-1, UNITS)[p, unit] == v for p, v in zip(places, seen.kept[unit], strict=True) if p >= 0)
    assert (seen.kept_at[0] == -1).all()


def test_parts_add_up_to_the_whole(x):
    whole = _summed(x)
    for informed in (False, True):
        first = _summed(x[:10])
        first.merge(_summed(x[10:], start=10, before=first if informed else None))
        _same(first, whole, exact=False)


def test_what_comes_before_changes_no_bit(x):
    blind, informed = _summed(x[:10]), _summed(x[:10])
    blind.merge(_summed(x[10:], start=10))
    informed.merge(_summed(x[10:], start=10, before=informed))
    _same(blind, informed)


def test_keys_come_back_from_places(x):
    seen = _summed(x)
    arrays = {f.name: getattr(seen, f.name) for f in dataclasses.fields(seen) if f.name != "kept_key"}
    np.testing.assert_array_equal(with_keys(arrays, 3).kept_key, seen.kept_key)


def test_keys_are_distinct_and_spread_and_of_the_seed():
    keys = keys_of(np.arange(100_000), 0)
    assert len(set(keys.tolist())) == 100_000
    assert abs(np.mean(keys.astype(float)) / 2.0**64 - 0.5) < 0.005
    assert (keys != keys_of(np.arange(100_000), 1)).all()
