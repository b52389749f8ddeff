"""The primitives that descriptions in words run as, in numpy: twins of those in `torch_words`."""

# mypy: disable-error-code="no-any-return"
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pellucid.ir.numpy_arrays import Array
from pellucid.ir.numpy_axes import softmax


def slot_codes(ids: Array, traits: Array, names: Sequence[str], given: Sequence[Array] = ()) -> Array:
    """What the named slots show at each position, [batch, position, slot].

    `traits` [trait, token] says of each token whether it starts in a letter, ends in one, follows a space, is a
    function word, has no letter or digit, ends a sentence, is capitalised, ends a line, how many quotation marks it
    holds, and whether it begins every text. `given`, in order: for slots "head …" the places that heads look at, for
    slots "unit …" what they show.
    """
    if not names:
        return np.empty((*ids.shape, 0), ids.dtype)
    waiting = iter(given)
    marks = [trait[ids] for trait in traits.astype(np.int64)]
    absent = traits.shape[1]
    found = []
    for name in names:
        if name.startswith("unit "):
            found.append(next(waiting))
        elif name.startswith("head "):
            found.append(_shown(ids, next(waiting), absent))
        else:
            found.append(_slot(ids, marks, absent, name))
    return np.stack([np.broadcast_to(codes, ids.shape) for codes in found], -1)


def _slot(ids: Array, marks: Sequence[Array], absent: int, name: str) -> Array:
    first, plus, second = name.partition("+")
    if plus:
        return _slot(ids, marks, absent, first) * (absent + 1) + _slot(ids, marks, absent, second)
    steps = {"current": 0, "previous": 1, "two back": 2, "three back": 3}
    if name in steps:
        return np.pad(ids, ((0, 0), (steps[name], 0)), constant_values=absent)[:, : ids.shape[1]]
    if name == "place":
        return _distance_class(marks[9] > 0)
    if name == "place in sentence":
        return _distance_class(_begins_sentence(marks))
    if name == "quoted":
        return _quoted(marks[8], marks[7] > 0)
    return _shown(ids, _places(ids, marks, name), absent)


def _begins_word(marks: Sequence[Array]) -> Array:
    letter, ending, spaced = marks[:3]
    follows = np.pad(ending[:, :-1], ((0, 0), (1, 0)))
    return (letter > 0) & ((spaced > 0) | (follows == 0))


def _begins_sentence(marks: Sequence[Array]) -> Array:
    inside = marks[4] == 0
    return inside & (_last(inside, 1) <= _last(marks[5] > 0, 1))


def _places(ids: Array, marks: Sequence[Array], name: str) -> Array:
    """The place whose token a slot shows."""
    word, mute = _begins_word(marks), marks[4] > 0
    if name in ("content", "second content", "third content"):
        content = word & (marks[3] == 0)
        places = _last(content, 1)
        for _ in range(("content", "second content", "third content").index(name)):
            places = _one_before(content, places)
        return places
    if name in ("word", "word before"):
        start = np.where(mute, -1, _last(word, 0))
        return start if name == "word" else np.where(start < 0, _last(word, 1), _one_before(word, start))
    if name in ("name", "name end"):
        places = _last(word & (marks[6] > 0) & ~_begins_sentence(marks), 1)
        return places if name == "name" else _following(places)
    if name == "after last time":
        return _following(_earlier(ids))
    if name == "sentence start":
        return _last(_begins_sentence(marks), 0)
    if name == "punctuation":
        return _last(mute, 1)
    raise ValueError(f"no slot is called {name!r}")


def _last(mask: Array, back: int) -> Array:
    """The last place, at least `back` before each position, where the mask holds."""
    places = np.maximum.accumulate(np.where(mask, np.arange(mask.shape[1]), -1), axis=1)
    return np.pad(places, ((0, 0), (back, 0)), constant_values=-1)[:, : mask.shape[1]]


def _one_before(mask: Array, places: Array) -> Array:
    return np.where(places < 0, -1, np.take_along_axis(_last(mask, 1), np.maximum(places, 0), 1))


def _following(places: Array) -> Array:
    return np.where(places < 0, -1, places + 1)


def _shown(ids: Array, places: Array, absent: int) -> Array:
    return np.where(places < 0, absent, np.take_along_axis(ids, np.maximum(places, 0), 1))


def _earlier(ids: Array) -> Array:
    """Where each token stood last before in its window."""
    order = np.argsort(ids, axis=1, kind="stable")
    values = np.take_along_axis(ids, order, 1)
    same = np.pad(values[:, 1:] == values[:, :-1], ((0, 0), (1, 0)))
    found, before = np.zeros_like(ids), np.pad(order[:, :-1], ((0, 0), (1, 0)))
    np.put_along_axis(found, order, np.where(same, before, -1), 1)
    return found


def _distance_class(mask: Array) -> Array:
    """In which class of distances lies how long ago the mask last held, or the window began."""
    away = np.arange(mask.shape[1]) - np.maximum(_last(mask, 0), 0)
    return np.searchsorted(np.array([1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 64, 128]), away, side="right")


def _quoted(quotes: Array, line: Array) -> Array:
    marks, start = quotes.cumsum(1), _last(line, 0)
    return (marks - np.where(start < 0, 0, np.take_along_axis(marks, np.maximum(start, 0), 1))) % 2


def label_leaves(
    codes: Array, known: Array, known_start: Array, node_start: Array, slot: Array, within: Array, yes: Array,
    no: Array, member_start: Array, members: Array,
) -> Array:  # fmt: skip
    """Which rule of each label gives its value, [batch, position, label], for codes [batch, position, slot].

    Conditions are nodes, those of a label in a row (`node_start`): whether the code of `slot` is among `members`, which
    are places in that slot's part of `known` (`known_start`); where that is as `within` says, `yes` comes next, else
    `no`: a later node of the label, or -1 - rule.
    """
    flat = codes.reshape(codes.shape[0] * codes.shape[1], codes.shape[2])
    sizes = np.diff(node_start)
    holds = _members(flat, known, known_start, slot, member_start, members) == within.astype(bool)[:, None]
    state = np.repeat(np.where(sizes > 0, 0, -1).astype(yes.dtype)[:, None], len(flat), 1)
    for step in range(int(sizes.max())):
        labels = np.flatnonzero(sizes > step)
        node = node_start[labels] + step
        following = np.where(holds[node], yes[node][:, None], no[node][:, None])
        state[labels] = np.where(state[labels] == step, following, state[labels])
    return (-1 - state).T.astype(np.int64).reshape(*codes.shape[:-1], len(sizes))


def _members(flat: Array, known: Array, known_start: Array, slot: Array, member_start: Array, members: Array) -> Array:
    """Whether the code that each condition asks for is among its members, [condition, position]."""
    found = np.zeros((len(slot), len(flat)), bool)
    owner = np.repeat(np.arange(len(slot)), np.diff(member_start))
    asking = slot[owner]
    for place in np.unique(slot):
        listed = known[int(known_start[place]) : int(known_start[place + 1])]
        seen, back = np.unique(flat[:, place], return_inverse=True)
        at = np.minimum(np.searchsorted(listed, seen), len(listed) - 1)
        known_here = listed[at] == seen
        row = np.full(len(listed), -1)
        row[at[known_here]] = np.flatnonzero(known_here)
        nodes = np.flatnonzero(slot == place)
        local = np.zeros(len(slot), np.int64)
        local[nodes] = np.arange(len(nodes))
        asked = np.flatnonzero(asking == place)
        rows = row[members[asked]]
        table = np.zeros((len(nodes), len(seen)), bool)
        table[local[owner[asked[rows >= 0]]], rows[rows >= 0]] = True
        found[nodes] = table[:, back]
    return found


def label_values(leaves: Array, values: Array) -> Array:
    """What labels say, [batch, position, label]: of `values` [label, rule] the one of the rule that holds."""
    return values.reshape(-1)[leaves + np.arange(len(values)) * values.shape[1]]


def always(x: Array, value: Array, first: Array) -> Array:
    """For every position of x [batch, position, feature] the same `value`, but `first` for the first."""
    start = np.arange(x.shape[1])[:, None] == 0
    return np.broadcast_to(np.where(start, first, value), x.shape)


def looked_at(pattern: Array, head: int, ids: Array, resting: int = -1) -> Array:
    """The place [batch, query] that a head of a pattern [batch, head, query, key] looks at most.

    Tokens `resting` count only where there is nothing else.
    """
    weights = np.where((ids == resting)[:, None], pattern[:, head] - 1, pattern[:, head])
    return weights.argmax(-1)


def rule_pattern(
    ids: Array, clusters: Array, pairs: Array, query_offsets: Array, key_offsets: Array, relations: Array,
    ends: Sequence[int], listed: Sequence[int], offsets: Sequence[int], places: Sequence[int], nth: int,
    beginning: int = -1,
) -> Array:  # fmt: skip
    """How much each head's rule makes each position look at each, [batch, head, query, key]; later keys get 0.

    The score is the sum of the entries of four tables [head, feature, …]: feature of the query by feature of the key,
    either by distance, feature of the query by relation. Features of a query: any, cluster of the token, of the one
    before, place in the sentence. Features of a key: the last three, which of the first places of its text (each begins
    with `beginning`), whether the token stood before, which listed token.
    """
    at = np.arange(ids.shape[1])
    before = np.pad(ids[:, :-1], ((0, 0), (1, 0)), constant_values=-1)
    sentence, place = _stretches((ids[..., None] == np.array(ends, np.int64)).any(-1))
    place = np.searchsorted(np.array(places), place, side="right") - 1
    text, first = _stretches(np.pad(ids[:, 1:] == beginning, ((0, 0), (0, 1))))
    own = [_of_cluster(clusters[:, i], tokens) for i, tokens in ((0, ids), (1, before), (2, ids), (3, before))]
    hot = [_hot(part, pairs_of) for part, pairs_of in zip(own, [_clusters_in(pairs, places)] * 4, strict=True)]
    by_place = _for_heads(_hot(place, len(places)), len(pairs))
    query = np.concatenate([np.ones_like(hot[0][..., :1]), hot[0], hot[1], by_place], -1)
    others = [_hot(np.minimum(first, nth - 1), nth)]
    others.append((_earlier(ids) >= 0)[..., None].astype(np.float32))
    others.append((ids[..., None] == np.array(listed, np.int64)).astype(np.float32))
    key = np.concatenate([hot[2], hot[3], by_place, _for_heads(np.concatenate(others, -1), len(pairs))], -1)
    away = np.searchsorted(np.array(offsets), np.maximum(at[:, None] - at, 0), side="right") - 1
    bucket = np.broadcast_to(away, (len(ids), len(pairs), *away.shape))
    scores = (query @ pairs) @ key.swapaxes(-1, -2)
    scores = scores + np.take_along_axis(query @ query_offsets, bucket, -1)
    scores = scores + np.take_along_axis((key @ key_offsets).swapaxes(-1, -2), bucket, -2)
    related = _related(ids, before, sentence, text)
    scores = scores + ((query @ relations).swapaxes(1, 2) @ related).swapaxes(1, 2)
    return softmax(np.where(at > at[:, None], np.float32(-np.inf), scores), -1)


def _stretches(ends: Array) -> tuple[Array, Array]:
    """The number of the stretch that each position stands in, up to an end, and how many of it come before."""
    at, over = np.arange(ends.shape[1]), ends.astype(np.int64)
    starts = np.pad(over[:, :-1], ((0, 0), (1, 0)), constant_values=1) > 0
    return over.cumsum(1) - over, at - np.maximum.accumulate(np.where(starts, at, 0), axis=1)


def _clusters_in(pairs: Array, places: Sequence[int]) -> int:
    """How many clusters rules have, from the features of a query: any, token, token before, place."""
    return (pairs.shape[1] - 1 - len(places)) // 2


def _of_cluster(clusters: Array, ids: Array) -> Array:
    """The cluster of each token for each head, [batch, head, position]; -1 where there is no token."""
    found = np.moveaxis(clusters[:, np.maximum(ids, 0)].astype(np.int64), 0, 1)
    return np.where((ids < 0)[:, None], -1, found)


def _hot(x: Array, size: int) -> Array:
    return (x[..., None] == np.arange(size)).astype(np.float32)


def _for_heads(x: Array, heads: int) -> Array:
    return np.broadcast_to(x[:, None], (len(x), heads, *x.shape[1:]))


def _related(ids: Array, before: Array, sentence: Array, text: Array) -> Array:
    """1 where a relation holds, [batch, query, relation, key]."""
    at = np.arange(ids.shape[1])
    earlier = at < at[:, None]
    asked = [(ids, ids), (ids, before), (before, before), (before, ids)]
    found = [(left[:, :, None] == right[:, None]) & earlier for left, right in asked]
    found += [(sentence[:, :, None] - sentence[:, None]) == back for back in range(3)]
    found.append((text[:, :, None] > text[:, None]) & earlier)
    return np.stack(found, 2).astype(np.float32)
