"""The small language model of `planted_language` with dictionaries, labels and rules put in by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from planted_language import VOCABULARY, WIDTH, language_program

from pellucid.data.corpus import Corpus
from pellucid.ir.graph import Block, Node, Ref, ValueType, Weight
from pellucid.ir.program import Function, Program, Reading
from pellucid.ir.validate import validate
from pellucid.words.heads.rule import HeadRule, table_shapes
from pellucid.words.heads.scene import grammar_of
from pellucid.words.labels.labelset import LabelSet
from pellucid.words.labels.lexicon import Lexicon, survey
from pellucid.words.labels.parser import parse_label
from pellucid.words.reading.install import Words

LATENTS = 5
PIECES = ("<s>", *(f" w{i}" for i in range(1, VOCABULARY - 2)), ".", ",")


def text(windows: int = 24, context: int = 20, seed: int = 0) -> Corpus:
    """Windows of a text in which every token depends on the one before."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(1, VOCABULARY, (windows, context))
    for t in range(1, context):
        ids[:, t] = np.where(rng.random(windows) < 0.8, (ids[:, t - 1] * 7 + 3) % (VOCABULARY - 1) + 1, ids[:, t])
    ids[:, 0] = 0
    return Corpus(ids.astype(np.int32), PIECES, 0)


def with_dictionaries(program: Program, seed: int = 0) -> Program:
    """Each MLP as a dictionary of random latents and what it misses; exact up to rounding."""
    generator = torch.Generator().manual_seed(seed)
    for name in [name for name, function in program.functions.items() if function.kind == "mlp"]:
        program = _with_dictionary(program, name, generator)
    validate(program)
    return program


def _with_dictionary(program: Program, name: str, generator: torch.Generator) -> Program:
    mlp = program[name]
    (x,), (y,) = mlp.inputs, mlp.outputs
    n = name.split(".")[1]
    latents, written, missed, real = f"latents{n}", f"written{n}", f"missed{n}", f"real{n}"
    stream = program.values[y]
    weights = {
        f"{name}.encoder": torch.randn(LATENTS, WIDTH, generator=generator),
        f"{name}.decoder": torch.randn(WIDTH, LATENTS, generator=generator),
    }
    exact = mlp.readings[0].body
    rename = {y: real}
    nodes = tuple(
        node.with_changes(outputs=tuple(rename.get(value, value) for value in node.outputs)) for node in exact.nodes
    )
    bodies = {
        ".dictionary": Block(
            (x,),
            (
                Node((f"pre{n}",), "linear", (Ref(x), Weight(f"{name}.encoder"), None)),
                Node((latents,), "relu", (Ref(f"pre{n}"),)),
            ),
            (latents,),
        ),
        ".written": Block(
            (latents,), (Node((written,), "linear", (Ref(latents), Weight(f"{name}.decoder"), None)),), (written,)
        ),
        ".missed": Block((x, written), (*nodes, Node((missed,), "sub", (Ref(real), Ref(written)))), (missed,)),
    }  # fmt: skip
    for suffix, body in bodies.items():
        kind = suffix[1:]
        made = Function(name + suffix, kind, name, body.inputs, body.outputs, (Reading("weights", body, "exact", 1.0),))
        program = program.with_function(made, weights)
    whole = Block(
        (x,),
        (
            Node((latents,), "call", (Ref(x),), function=f"{name}.dictionary"),
            Node((written,), "call", (Ref(latents),), function=f"{name}.written"),
            Node((missed,), "call", (Ref(x), Ref(written)), function=f"{name}.missed"),
            Node((y,), "add", (Ref(written), Ref(missed))),
        ),
        (y,),
    )
    reading = dataclasses.replace(mlp.readings[0], body=whole)
    values = {
        **program.values, **dict.fromkeys((written, missed, real), stream),
        **dict.fromkeys((latents, f"pre{n}"), ValueType("float32", (*stream.axes[:2], LATENTS))),
    }  # fmt: skip
    return dataclasses.replace(program.with_function(dataclasses.replace(mlp, readings=(reading,))), values=values)


def labels_for(site: str, lexicon: Lexicon, seed: int = 0, head: str = "", unit: str = "") -> LabelSet:
    """Labels of all latents, each of a few random sets; the last cites a head when one is named, the first a unit."""
    rng = np.random.default_rng(seed)

    def tokens() -> str:
        return ", ".join(f'"{PIECES[i]}"' for i in sorted(rng.choice(np.arange(1, VOCABULARY), 9, replace=False)))

    lines = [
        f"{rng.normal():.3g} where current in {{{tokens()}}} and previous in {{{tokens()}}}; "
        f"{rng.normal():.3g} where current in {{{tokens()}}}; {rng.normal():.3g} otherwise"
        for _ in range(LATENTS)
    ]
    if head:
        lines[-1] = f"2 where head {head} in {{{tokens()}}}; 0 otherwise"
    if unit:
        lines[0] = f"3 where unit {unit} in {{active, strong}} and current in {{{tokens()}}}; 1 otherwise"
    return LabelSet(site, tuple(parse_label(line, lexicon) for line in lines), lexicon)


def rules_for(program: Program, corpus: Corpus, seed: int = 0) -> tuple[HeadRule, ...]:
    """A random rule for every head."""
    rng, grammar = np.random.default_rng(seed), grammar_of(corpus, clusters=4, listed=2)
    return tuple(
        HeadRule(
            name, head, grammar, rng.integers(0, 4, (4, VOCABULARY)).astype(np.uint8),
            {key: rng.normal(size=shape).astype(np.float32) for key, shape in table_shapes(grammar).items()},
            rests=head == 0,
        )
        for name, function in program.functions.items() if function.kind == "attention" for head in range(2)
    )  # fmt: skip


def described(layers: int = 2, head: str = "0.0", citing: bool = False) -> tuple[Program, Words, Corpus]:
    """A program with dictionaries, words for all of it (not installed), and a text; `citing` for labels that cite the
    first unit of the MLP before."""
    corpus = text()
    program = with_dictionaries(language_program(layers))
    lexicon = survey(corpus)
    labels = {
        name: labels_for(
            f"{name}.dictionary:latents", lexicon, i, head if i else "", f"{i - 1}.0" if i and citing else ""
        )
        for i, name in enumerate(n for n, f in program.functions.items() if f.kind == "mlp")
    }
    return program, Words(labels, rules_for(program, corpus)), corpus
