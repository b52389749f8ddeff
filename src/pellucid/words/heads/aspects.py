"""What there is to look at: plain descriptions of keys as seen from a query, and what weight a head puts there.

An aspect is a set of keys for every query: the token before, an earlier copy, the last name. Sets may overlap. Its
share is the mean weight that a head puts on it; beside it stands what a head would put there that looks at every key
alike. The same is counted for each token.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from pellucid.words.heads.capture import Captured
from pellucid.words.heads.scene import Grammar, Scene, scene_of

WINDOWS = 8

MARKS = " ▁Ġ"


@dataclass(frozen=True)
class Kinds:
    """Kinds of tokens told by their text: names (a capital after a space), quotes, ends of sentences."""

    name: Bool[torch.Tensor, " vocabulary"]
    quote: Bool[torch.Tensor, " vocabulary"]
    end: Bool[torch.Tensor, " vocabulary"]


def kinds_of(pieces: Sequence[str], grammar: Grammar) -> Kinds:
    """The kinds of all tokens of a vocabulary."""
    end = torch.zeros(len(pieces), dtype=torch.bool)
    end[list(grammar.ends)] = True
    return Kinds(
        torch.tensor([len(p) > 2 and p[0] in MARKS and p[1].isupper() and p[2:].islower() for p in pieces]),
        torch.tensor(['"' in p or "“" in p or "”" in p for p in pieces]),
        end,
    )


@dataclass(frozen=True)
class View:
    """A scene with what aspects ask about it: who looks from where, and the kinds of keys."""

    scene: Scene
    kinds: Kinds
    back: Int[torch.Tensor, "windows query key"]

    def key(self, holds: Bool[torch.Tensor, "windows context"]) -> Bool[torch.Tensor, "windows query key"]:
        """Keys of which something holds."""
        return holds[:, None].expand_as(self.back)

    def last(self, holds: Bool[torch.Tensor, "windows context"]) -> Bool[torch.Tensor, "windows query key"]:
        """The latest key before the query of which something holds."""
        at = torch.arange(holds.shape[1])
        seen = torch.where(holds, at, -1).cummax(1).values
        before = torch.nn.functional.pad(seen[:, :-1], (1, 0), value=-1)
        return before.gather(1, self.scene.queries)[..., None] == at

    def related(self, relation: int) -> Bool[torch.Tensor, "windows query key"]:
        """Keys that a relation of the grammar holds of."""
        return self.scene.relations[:, :, relation] > 0


Aspect: TypeAlias = Callable[[View], Bool[torch.Tensor, "windows query key"]]


def _name(view: View) -> Bool[torch.Tensor, "windows context"]:
    return view.kinds.name[view.scene.token] & (view.scene.place > 0)


ASPECTS: Mapping[str, Aspect] = {
    "itself": lambda view: view.back == 0,
    "the token before": lambda view: view.back == 1,
    "the token two back": lambda view: view.back == 2,
    "the tokens three to five back": lambda view: (view.back >= 3) & (view.back <= 5),
    "the tokens six to fifteen back": lambda view: (view.back >= 6) & (view.back <= 15),
    "tokens more than fifteen back": lambda view: view.back > 15,
    "earlier copies of its token": lambda view: view.related(0),
    "what followed earlier copies of its token": lambda view: view.related(1),
    "what stands after copies of the token before": lambda view: view.related(2),
    "earlier copies of the token before": lambda view: view.related(3) & (view.back > 1),
    "the beginning": lambda view: view.key(view.scene.nth == 0),
    "the first words": lambda view: view.key((view.scene.nth > 0) & (view.scene.nth < 4)),
    "the last end of a sentence": lambda view: view.last(view.kinds.end[view.scene.token]),
    "ends of sentences": lambda view: view.key(view.kinds.end[view.scene.token]),
    "the first word of its sentence": lambda view: view.related(4) & view.key(view.scene.place == 0),
    "first words of sentences": lambda view: view.key((view.scene.place == 0) & (view.scene.nth > 0)),
    "the last name": lambda view: view.last(_name(view)),
    "names": lambda view: view.key(_name(view)),
    "the last quote": lambda view: view.last(view.kinds.quote[view.scene.token]),
    "quotes": lambda view: view.key(view.kinds.quote[view.scene.token]),
    "its sentence": lambda view: view.related(4) & (view.back > 0),
    "the sentence before": lambda view: view.related(5),
    "two sentences back": lambda view: view.related(6),
}
"""What a head may look at, as it is said after "looks at"."""


@dataclass(frozen=True, eq=False)
class Shares:
    """How much of its weight each head puts on each aspect (in the order of ASPECTS), and a uniform look would.

    Attributes:
        real: of each head.
        uniform: of a head that looks at every key alike.
        tokens, uniform_tokens: the same shares of each token of the vocabulary as a key, the first place left out.
        queries: over how many queries.
    """

    real: Float[np.ndarray, "heads aspects"]
    uniform: Float[np.ndarray, " aspects"]
    tokens: Float[np.ndarray, "heads vocabulary"]
    uniform_tokens: Float[np.ndarray, " vocabulary"]
    queries: int


def shares_of(captured: Captured, grammar: Grammar, pieces: Sequence[str]) -> Shares:
    """What the heads of a network look at, by aspect."""
    kinds = kinds_of(pieces, grammar)
    ids, queries = torch.from_numpy(captured.ids.astype(np.int64)), torch.from_numpy(captured.queries)
    heads = len(captured.names)
    real, alike = np.zeros((heads, len(ASPECTS))), np.zeros(len(ASPECTS))
    tokens, alike_tokens = torch.zeros(heads, len(pieces)), torch.zeros(1, len(pieces))
    for start in range(0, len(ids), WINDOWS):
        chosen = np.arange(start, min(start + WINDOWS, len(ids)))
        scene = scene_of(grammar, ids[chosen], queries[chosen])
        view = View(scene, kinds, scene.queries[..., None] - torch.arange(ids.shape[1]))
        open_keys = (view.back >= 0).float()
        even = open_keys / open_keys.sum(-1, keepdim=True)
        pattern = captured.pattern(chosen).movedim(1, -1)
        for i, aspect in enumerate(ASPECTS.values()):
            keys = (aspect(view) & (view.back >= 0)).float()
            real[:, i] += (pattern * keys[..., None]).sum((0, 1, 2)).numpy()
            alike[i] += float((even * keys).sum())
        _count(tokens, scene, pattern)
        _count(alike_tokens, scene, even[..., None])
    count = queries.numel()
    return Shares(real / count, alike / count, tokens.numpy() / count, alike_tokens[0].numpy() / count, count)


def _count(
    tokens: Float[torch.Tensor, "heads vocabulary"],
    scene: Scene,
    pattern: Float[torch.Tensor, "windows query key heads"],
) -> None:
    """Add the weight that is put on each token as a key."""
    weight = pattern.sum(1)[:, 1:]
    tokens.index_add_(1, scene.token[:, 1:].flatten(), weight.flatten(0, 1).T.contiguous())
