"""Where labels find, on any text, what they cite: places from rules of heads, levels from labels of earlier MLPs."""

from __future__ import annotations

import dataclasses

from pellucid.ir.program import Program
from pellucid.words.labels.citing import citations
from pellucid.words.labels.labelset import LabelSet
from pellucid.words.labels.places import Ids
from pellucid.words.labels.slots import Given
from pellucid.words.reading.install import Words, head_names, mlp_names


def knowing(program: Program, words: Words) -> dict[str, LabelSet]:
    """The labels of each MLP, which find what they cite by themselves; those that cite nothing as they are.

    Args:
        program: with the dictionaries of the MLPs.

    Raises:
        BadInput: when they are run: a label cites a head without a rule, or a unit that is no labelled one of an
            earlier MLP.
    """
    ordered = {place: words.labels[name] for place, name in mlp_names(program).items() if name in words.labels}
    wanted = {slot for labels in ordered.values() for slot in labels.slots}
    heads = {f"head {head}": rule for head, (_, rule) in head_names(program, words.attentions).items()}

    def sources(ids: Ids) -> Given:
        looks = {slot: rule.looks_at(ids) for slot, rule in heads.items() if slot in wanted}
        return citations(ordered, ids, looks)

    return {
        name: dataclasses.replace(labels, sources=sources) if labels.cites else labels
        for name, labels in words.labels.items()
    }
