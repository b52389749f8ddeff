"""Records of units made up by hand, with text that tries to do harm."""

import math

from pellucid.words.described import DescribedUnit, Link, Stretch
from pellucid.words.judged import JudgedLabel, Score

HOSTILE = (
    "<script>alert(1)</script>", 'say "hi"', "line\nend", "\x00", "\x1b[31m", "\u202egnp", "\ud800", "\\ud800",
    "\\", "\\\\u0000", "[bold]x[/bold]", "</html>", "\u2028", "é 𝄞", "{{ 7*7 }}", "",
)  # fmt: skip
SITE = "model.layers.0.mlp.dictionary:latents"


def stretch(pieces, activations, how="top", predicted=None, window=3):
    said = tuple(activations) if predicted is None else tuple(predicted)
    return Stretch(how, window, 5, tuple(pieces), tuple(activations), said)


def hostile_unit(index=0, site=SITE):
    """A unit whose label and every token are hostile."""
    acts = [float(place) / 2 for place in range(len(HOSTILE))]
    name = f"{site}[{index}]"
    links = (Link(f"{SITE}[1]", -0.5), Link('m.<b>"x:latents[0]', 0.25))
    contexts = (stretch(HOSTILE, acts), stretch(("a", "\ud800", " b"), (0.0, 0.0, 0.0), "random", window=4))
    return DescribedUnit(
        name, "1 where current in {" + " ".join(HOSTILE) + "}", "tree", 0.75, 0.01, 0.1, contexts, links
    )


def units(count=3, site=SITE):
    """Some units; the last has no label, no score and no context."""
    plain = [
        DescribedUnit(
            f"{site}[{index}]", f'{index}.5 where current in {{" the"}}; 0 otherwise', "tree",
            0.5 + index / 10, 0.0, 0.2,
            (stretch((" on", " the", " mat"), (0.0, 1.5 + index, 0.0), predicted=(0.0, 1.0, 0.0)),),
            (), (Link(f"{site}[0]", 1.0),),
        )
        for index in range(1, count - 1)
    ]  # fmt: skip
    none = DescribedUnit(f"{site}[{count - 1}]", None, "language model", math.nan, math.nan, 0.0)
    return (hostile_unit(0, site), *plain, none)


def judged(site=SITE):
    """Labels by exams: of unit 0 its tree and what a model said of it, hostile; of unit 1 none came."""
    detection = Score("detection", 0.9, 0.7, 0.98, 10, 0, 0.5)
    fuzzing = Score("fuzzing", math.nan, 0.0, 1.0, 0, 10, math.nan)
    return (
        JudgedLabel(f"{site}[0]", "tree", "pellucid", hostile_unit().label, None, (detection, fuzzing)),
        JudgedLabel(f"{site}[0]", "language model", "a model", "".join(HOSTILE), None, (detection,)),
        JudgedLabel(f"{site}[1]", "language model", "a model", None, "timeout: no reply"),
    )


def hostile_head(index=0, site="model.layers.0.self_attn:heads"):
    """An attention head whose label, tokens and query are hostile."""
    weights = (*(0.0 for _ in HOSTILE[2:]), 0.75, 0.0)
    looked = Stretch("top", 2, 7, HOSTILE, weights, tuple(reversed(weights)), len(HOSTILE) - 1)
    away = Stretch("random", 3, 1, (" a", " b", " c"), (0.0, 0.25, 0.5), (0.0, 0.0, 0.6), 2)
    links = (Link(f"{SITE}[1]", 0.5),)
    return DescribedUnit(
        f"{site}[{index}]", "looks at " + " ".join(HOSTILE) + "\nat distance 1: +2.0", "rule", 0.9, 0.25, 0.8,
        (looked, away), links, links,
    )  # fmt: skip
