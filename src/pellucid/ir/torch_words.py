"""The primitives that descriptions in words run as, in torch: what tokens say (slots), labels, rules of heads.

What the slots are is told in `pellucid.words.labels.slots`, what rules are made of in `pellucid.words.heads.scene`.
`pellucid.ir.numpy_words` has the same in numpy. Ids are [batch, position]; places are positions, -1 where there is
none; the number of tokens stands for a token that is not there.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor


def slot_codes(ids: Tensor, traits: Tensor, names: Sequence[str], given: Sequence[Tensor] = ()) -> Tensor:
    """What the named slots show at each position, [batch, position, slot].

    `traits` [trait, token] says of each token whether it starts in a letter, ends in one, follows a space, is a
    function word, has no letter or digit, ends a sentence, is capitalised, ends a line, how many quotation marks it
    holds, and whether it begins every text. `given`, in order: for slots "head …" the places that heads look at, for
    slots "unit …" what they show.
    """
    if not names:
        return ids.new_empty((*ids.shape, 0))
    waiting = iter(given)
    marks = [trait[ids] for trait in traits.long()]
    absent = traits.shape[1]
    found = []
    for name in names:
        if name.startswith("unit "):
            found.append(next(waiting))
        elif name.startswith("head "):
            found.append(_shown(ids, next(waiting), absent))
        else:
            found.append(_slot(ids, marks, absent, name))
    return torch.stack([codes.expand(ids.shape) for codes in found], dim=-1)


def _slot(ids: Tensor, marks: Sequence[Tensor], absent: int, name: str) -> Tensor:
    first, plus, second = name.partition("+")
    if plus:
        return _slot(ids, marks, absent, first) * (absent + 1) + _slot(ids, marks, absent, second)
    steps = {"current": 0, "previous": 1, "two back": 2, "three back": 3}
    if name in steps:
        return F.pad(ids, (steps[name], 0), value=absent)[:, : ids.shape[1]]
    if name == "place":
        return _distance_class(marks[9] > 0)
    if name == "place in sentence":
        return _distance_class(_begins_sentence(marks))
    if name == "quoted":
        return _quoted(marks[8], marks[7] > 0)
    return _shown(ids, _places(ids, marks, name), absent)


def _begins_word(marks: Sequence[Tensor]) -> Tensor:
    letter, ending, spaced = marks[:3]
    follows = F.pad(ending[:, :-1], (1, 0))
    return (letter > 0) & ((spaced > 0) | (follows == 0))


def _begins_sentence(marks: Sequence[Tensor]) -> Tensor:
    inside = marks[4] == 0
    return inside & (_last(inside, 1) <= _last(marks[5] > 0, 1))


def _places(ids: Tensor, marks: Sequence[Tensor], name: str) -> Tensor:
    """The place whose token a slot shows."""
    word, mute = _begins_word(marks), marks[4] > 0
    if name in ("content", "second content", "third content"):
        content = word & (marks[3] == 0)
        places = _last(content, 1)
        for _ in range(("content", "second content", "third content").index(name)):
            places = _one_before(content, places)
        return places
    if name in ("word", "word before"):
        start = torch.where(mute, -1, _last(word, 0))
        return start if name == "word" else torch.where(start < 0, _last(word, 1), _one_before(word, start))
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


def _last(mask: Tensor, back: int) -> Tensor:
    """The last place, at least `back` before each position, where the mask holds."""
    places = torch.where(mask, torch.arange(mask.shape[1]), -1).cummax(1).values
    return F.pad(places, (back, 0), value=-1)[:, : mask.shape[1]]


def _one_before(mask: Tensor, places: Tensor) -> Tensor:
    return torch.where(places < 0, -1, _last(mask, 1).gather(1, places.clamp(min=0)))


def _following(places: Tensor) -> Tensor:
    return torch.where(places < 0, -1, places + 1)


def _shown(ids: Tensor, places: Tensor, absent: int) -> Tensor:
    return torch.where(places < 0, absent, ids.gather(1, places.long().clamp(min=0)))


def _earlier(ids: Tensor) -> Tensor:
    """Where each token stood last before in its window."""
    values, order = torch.sort(ids, dim=1, stable=True)
    same = F.pad(values[:, 1:] == values[:, :-1], (1, 0))
    found = torch.where(same, F.pad(order[:, :-1], (1, 0)), -1)
    return torch.zeros_like(ids).scatter(1, order, found)


def _distance_class(mask: Tensor) -> Tensor:
    """In which class of distances lies how long ago the mask last held, or the window began."""
    away = torch.arange(mask.shape[1]) - _last(mask, 0).clamp(min=0)
    return torch.bucketize(away, torch.tensor([1, 2, 3, 4, 5, 6, 8, 12, 16, 24, 32, 64, 128]), right=True)


def _quoted(quotes: Tensor, line: Tensor) -> Tensor:
    marks, start = quotes.cumsum(1), _last(line, 0)
    return (marks - torch.where(start < 0, 0, marks.gather(1, start.clamp(min=0)))) % 2


def label_leaves(
    codes: Tensor, known: Tensor, known_start: Tensor, node_start: Tensor, slot: Tensor, within: Tensor, yes: Tensor,
    no: Tensor, member_start: Tensor, members: Tensor,
) -> Tensor:  # fmt: skip
    """Which rule of each label gives its value, [batch, position, label], for codes [batch, position, slot].

    Conditions are nodes, those of a label in a row (`node_start`): whether the code of `slot` is among `members`, which
    are places in that slot's part of `known` (`known_start`); where that is as `within` says, `yes` comes next, else
    `no`: a later node of the label, or -1 - rule.
    """
    flat, sizes = codes.flatten(0, 1), node_start.diff()
    holds = _members(flat, known, known_start, slot, member_start, members) == within.bool()[:, None]
    state = torch.where(sizes > 0, 0, -1).to(yes.dtype)[:, None].repeat(1, len(flat))
    for step in range(int(sizes.max())):
        labels = (sizes > step).nonzero()[:, 0]
        node = node_start[labels] + step
        following = torch.where(holds[node], yes[node][:, None], no[node][:, None])
        state[labels] = torch.where(state[labels] == step, following, state[labels])
    return (-1 - state).T.long().reshape(*codes.shape[:-1], len(sizes))


def _members(
    flat: Tensor, known: Tensor, known_start: Tensor, slot: Tensor, member_start: Tensor, members: Tensor
) -> Tensor:
    """Whether the code that each condition asks for is among its members, [condition, position]."""
    found = torch.zeros(len(slot), len(flat), dtype=torch.bool)
    owner = torch.repeat_interleave(torch.arange(len(slot)), member_start.diff())
    asking = slot[owner]
    for place in torch.unique(slot).tolist():
        listed = known[int(known_start[place]) : int(known_start[place + 1])]
        seen, back = torch.unique(flat[:, place], return_inverse=True)
        at = torch.searchsorted(listed, seen).clamp(max=len(listed) - 1)
        known_here = listed[at] == seen
        row = torch.full((len(listed),), -1)
        row[at[known_here]] = known_here.nonzero()[:, 0]
        nodes = (slot == place).nonzero()[:, 0]
        local = torch.zeros(len(slot), dtype=torch.long)
        local[nodes] = torch.arange(len(nodes))
        asked = (asking == place).nonzero()[:, 0]
        rows = row[members[asked].long()]
        table = torch.zeros(len(nodes), len(seen), dtype=torch.bool)
        table[local[owner[asked[rows >= 0]]], rows[rows >= 0]] = True
        found[nodes] = table[:, back]
    return found


def label_values(leaves: Tensor, values: Tensor) -> Tensor:
    """What labels say, [batch, position, label]: of `values` [label, rule] the one of the rule that holds."""
    return values.reshape(-1)[leaves + torch.arange(len(values)) * values.shape[1]]


def always(x: Tensor, value: Tensor, first: Tensor) -> Tensor:
    """For every position of x [batch, position, feature] the same `value`, but `first` for the first."""
    start = torch.arange(x.shape[1])[:, None] == 0
    return torch.where(start, first, value).expand(x.shape)


def looked_at(pattern: Tensor, head: int, ids: Tensor, resting: int = -1) -> Tensor:
    """The place [batch, query] that a head of a pattern [batch, head, query, key] looks at most.

    Tokens `resting` count only where there is nothing else.
    """
    weights = torch.where((ids == resting)[:, None], pattern[:, head] - 1, pattern[:, head])
    return weights.argmax(-1)


def rule_pattern(
    ids: Tensor, clusters: Tensor, pairs: Tensor, query_offsets: Tensor, key_offsets: Tensor, relations: Tensor,
    ends: Sequence[int], listed: Sequence[int], offsets: Sequence[int], places: Sequence[int], nth: int,
    beginning: int = -1,
) -> Tensor:  # fmt: skip
    """How much each head's rule makes each position look at each, [batch, head, query, key]; later keys get 0.

    The score is the sum of the entries of four tables [head, feature, …]: feature of the query by feature of the key,
    either by distance, feature of the query by relation. Features of a query: any, cluster of the token, of the one
    before, place in the sentence. Features of a key: the last three, which of the first places of its text (each begins
    with `beginning`), whether the token stood before, which listed token.
    """
    at = torch.arange(ids.shape[1])
    before = F.pad(ids[:, :-1], (1, 0), value=-1)
    sentence, place = _stretches((ids[..., None] == torch.tensor(ends)).any(-1))
    place = torch.bucketize(place, torch.tensor(places), right=True) - 1
    text, first = _stretches(F.pad(ids[:, 1:] == beginning, (0, 1)))
    own = [_of_cluster(clusters[:, i], tokens) for i, tokens in ((0, ids), (1, before), (2, ids), (3, before))]
    hot = [_hot(part, pairs_of) for part, pairs_of in zip(own, [_clusters_in(pairs, places)] * 4, strict=True)]
    by_place = _for_heads(_hot(place, len(places)), len(pairs))
    query = torch.cat([torch.ones_like(hot[0][..., :1]), hot[0], hot[1], by_place], -1)
    others = [_hot(first.clamp(max=nth - 1), nth), (_earlier(ids) >= 0)[..., None].float()]
    others.append((ids[..., None] == torch.tensor(listed)).float())
    key = torch.cat([hot[2], hot[3], by_place, _for_heads(torch.cat(others, -1), len(pairs))], -1)
    away = torch.bucketize((at[:, None] - at).clamp(min=0), torch.tensor(offsets), right=True) - 1
    bucket = away.expand(len(ids), len(pairs), -1, -1)
    scores = (query @ pairs) @ key.transpose(-1, -2)
    scores = scores + (query @ query_offsets).gather(-1, bucket)
    scores = scores + (key @ key_offsets).transpose(-1, -2).gather(-2, bucket)
    related = _related(ids, before, sentence, text)
    scores = scores + ((query @ relations).transpose(1, 2) @ related).transpose(1, 2)
    return scores.masked_fill(at > at[:, None], -torch.inf).softmax(-1)


def _stretches(ends: Tensor) -> tuple[Tensor, Tensor]:
    """The number of the stretch that each position stands in, up to an end, and how many of it come before."""
    at, over = torch.arange(ends.shape[1]), ends.long()
    starts = F.pad(over[:, :-1], (1, 0), value=1) > 0
    return over.cumsum(1) - over, at - torch.where(starts, at, 0).cummax(1).values


def _clusters_in(pairs: Tensor, places: Sequence[int]) -> int:
    """How many clusters rules have, from the features of a query: any, token, token before, place."""
    return (pairs.shape[1] - 1 - len(places)) // 2


def _of_cluster(clusters: Tensor, ids: Tensor) -> Tensor:
    """The cluster of each token for each head, [batch, head, position]; -1 where there is no token."""
    found = clusters[:, ids.clamp(min=0)].long().movedim(0, 1)
    return torch.where((ids < 0)[:, None], -1, found)


def _hot(x: Tensor, size: int) -> Tensor:
    return (x[..., None] == torch.arange(size)).float()


def _for_heads(x: Tensor, heads: int) -> Tensor:
    return x[:, None].expand(-1, heads, -1, -1)


def _related(ids: Tensor, before: Tensor, sentence: Tensor, text: Tensor) -> Tensor:
    """1 where a relation holds, [batch, query, relation, key]."""
    at = torch.arange(ids.shape[1])
    earlier = at < at[:, None]
    asked = [(ids, ids), (ids, before), (before, before), (before, ids)]
    found = [(left[:, :, None] == right[:, None]) & earlier for left, right in asked]
    found += [(sentence[:, :, None] - sentence[:, None]) == back for back in range(3)]
    found.append((text[:, :, None] > text[:, None]) & earlier)
    return torch.stack(found, 2).float()
