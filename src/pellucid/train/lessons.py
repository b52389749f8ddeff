"""What `pellucid train` was asked for: a recipe, its task made of the user's model and text, and an exam on demand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int

from pellucid.data.corpus import windows_of
from pellucid.errors import BadInput
from pellucid.train import characters, language
from pellucid.train.exam import Exam, exam_with
from pellucid.train.recipes import RECIPES, Recipe, planned, recipe

TEXTUAL = ("characters", "pretrained")
"""Recipes that take a text."""


@dataclass(frozen=True)
class Asked:
    """The options of a command: `evaluate` asks for an exam, `wsc` and `blimp` add questions to it."""

    recipe: str | None = None
    model: str | None = None
    text: Path | None = None
    evaluate: bool = False
    wsc: Path | None = None
    blimp: Path | None = None
    steps: int | None = None
    restarts: int | None = None


@dataclass(frozen=True)
class Lesson:
    """A recipe with what its network is examined on; None: nobody asked."""

    recipe: Recipe
    exam: Exam | None = None


def lesson(asked: Asked) -> Lesson:
    """The lesson that was asked for.

    Raises:
        BadInput: options that do not go together, or a model, a text or questions that cannot be read.
    """
    name = asked.recipe or ("pretrained" if asked.model else "characters" if asked.text else "double-digits")
    _fitting(name, asked)
    made = _MAKERS[name](asked) if name in _MAKERS else Lesson(recipe(name))
    return Lesson(planned(made.recipe, steps=asked.steps, restarts=asked.restarts), made.exam)


def _fitting(name: str, asked: Asked) -> None:
    if name not in TEXTUAL:
        if name not in RECIPES:
            raise BadInput(f"unknown recipe {name!r}; take one of {', '.join((*RECIPES, *TEXTUAL))}")
        given = [f"--{option}" for option in ("model", "text", "evaluate", "wsc", "blimp") if getattr(asked, option)]
        if given:
            raise BadInput(f"the recipe {name!r} is no language model: {', '.join(given)} does not go with it")
        return
    if asked.text is None:
        raise BadInput(f"the recipe {name!r} learns from a text; give one with --text")
    if name == "pretrained" and asked.model is None:
        raise BadInput("the recipe 'pretrained' takes a language model; give a folder or smollm2 with --model")
    if name != "pretrained" and asked.model is not None:
        raise BadInput(f"the recipe {name!r} begins from scratch; leave --model away")
    for option in ("wsc", "blimp"):
        if getattr(asked, option) is not None and not asked.evaluate:
            raise BadInput(f"--{option} is a part of the exam; add --evaluate")


def _pretrained(asked: Asked) -> Lesson:
    assert asked.model is not None
    assert asked.text is not None
    network = language.pretrained(asked.model)
    corpus = language.read_text(network, asked.text)
    task = language.fine_tuning(network.module, corpus, f"{network.source} on {corpus.fingerprint[:12]}")
    exam = None
    if asked.evaluate:
        assert network.tokenizer is not None
        exam = exam_with(language.parts(corpus)[1], network.tokenizer, wsc=asked.wsc, blimp=asked.blimp)
    return Lesson(Recipe(task, language.PLAN), exam)


class Bytes:
    """The tokenizer of the recipe "characters": each byte is its place among the commonest of the text it was made on.

    Attributes:
        places: of all 256 bytes.
    """

    def __init__(self, text: bytes, encoded: Int[torch.Tensor, " text"]) -> None:
        self.places = torch.full((256,), characters.VOCABULARY - 1)
        self.places[torch.frombuffer(bytearray(text), dtype=torch.uint8).long()] = encoded

    def encode(self, text: str) -> list[int]:
        """The places of a text's bytes."""
        return [int(self.places[byte]) for byte in text.encode()]

    def decode(self, ids: Sequence[int]) -> str:
        """The commonest byte at each place; places that several bytes share are question marks."""
        shared = torch.bincount(self.places, minlength=characters.VOCABULARY) != 1
        first = [int(torch.nonzero(self.places == place)[0, 0]) if not shared[place] else ord("?") for place in ids]
        return bytes(first).decode("utf-8", "replace")


def _characters(asked: Asked) -> Lesson:
    assert asked.text is not None
    task = characters.characters(asked.text)
    exam = None
    if asked.evaluate:
        encoded = characters.encoded(asked.text)
        tokenizer = Bytes(asked.text.read_bytes(), encoded)
        pieces = [tokenizer.decode([place]) for place in range(characters.VOCABULARY)]
        held = windows_of([characters.parts(encoded)[1].tolist()], pieces, characters.CONTEXT)
        exam = exam_with(held, tokenizer, positions=characters.CONTEXT, wsc=asked.wsc, blimp=asked.blimp)
    return Lesson(Recipe(task, characters.PLAN), exam)


_MAKERS: Mapping[str, Callable[[Asked], Lesson]] = {"characters": _characters, "pretrained": _pretrained}
