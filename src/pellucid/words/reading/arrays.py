"""Labels and rules as the arguments of the primitives that run them (`pellucid.ir.torch_words`)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int, Shaped

from pellucid.words.heads.rule import HeadRule, Heads
from pellucid.words.heads.scene import NTH, PLACES
from pellucid.words.labels.labelset import LabelSet
from pellucid.words.labels.lexicon import Lexicon

Literals = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...], int, int]
"""Of rules: ids that end a sentence, listed ids, least distances, least places in a sentence, first places, and the
id that texts begin with (-1 for none)."""

TABLES = ("clusters", "pairs", "query_offsets", "key_offsets", "relations")


def traits_of(lexicon: Lexicon) -> Int[torch.Tensor, "trait vocabulary"]:
    """What `slot_codes` has to know of each token, as int8 (quotation marks beyond 100 count as 100)."""
    beginning = np.arange(len(lexicon.pieces)) == (-1 if lexicon.beginning is None else lexicon.beginning)
    traits = (
        lexicon.starts_in_letter, lexicon.ends_in_letter, lexicon.spaced, lexicon.is_function_word,
        lexicon.punctuation, lexicon.ends_sentence, lexicon.capital, lexicon.breaks,
        np.minimum(lexicon.quotes, 100), beginning,
    )  # fmt: skip
    return torch.from_numpy(np.stack([trait.astype(np.int8) for trait in traits]))


def label_tables(labels: LabelSet) -> dict[str, Shaped[torch.Tensor, "..."]]:
    """The arguments of `label_leaves` after the codes, by name and in order."""
    flat = labels.flat
    known = np.concatenate([np.zeros(0, np.int64), *flat.codes]).astype(np.int64)
    starts = np.concatenate([[0], np.cumsum([len(codes) for codes in flat.codes])]).astype(np.int64)
    arrays = {
        "known": known, "known_start": starts, "node_start": flat.node_start.astype(np.int64),
        "slot": flat.slot.astype(np.int16), "within": flat.within, "yes": flat.yes.astype(np.int32),
        "no": flat.no.astype(np.int32), "member_start": flat.member_start.astype(np.int64),
        "members": flat.members.astype(np.int32),
    }  # fmt: skip
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def rule_arguments(rules: Sequence[HeadRule]) -> tuple[dict[str, Shaped[torch.Tensor, "..."]], Literals]:
    """The arguments of `rule_pattern` after the ids: tensors by name and in order, then plain numbers.

    Raises:
        BadInput: there are no rules, or their grammars differ.
    """
    heads, grammar = Heads.of(rules), rules[0].grammar
    beginning = -1 if grammar.beginning is None else grammar.beginning
    tensors = {"clusters": heads.clusters, **{name: heads.tables[name].detach() for name in TABLES[1:]}}
    return tensors, (grammar.ends, grammar.listed, grammar.offsets, PLACES, NTH, beginning)
