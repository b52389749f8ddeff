"""Tuning the numbers of all words together, so that the network that runs on them predicts as it did.

What is tuned are constants of descriptions: the values of labels, what dictionaries miss, the tables of rules. Adam
follows the cross-entropy of the network on words to the network's own prediction at each position (it varies less from
text to text than the one token that came next), over the tokens that occur in the *tune* part. So that words go on
describing their parts, it costs what they leave unexplained of them (`anchor`), and in some steps each part runs by
words only with probability one half. What latents write is tuned along. Windows held back from the gradient say when to
stop, and which constants to keep. What is kept on disk after each look at them is enough to go on after an
interruption, to the same result.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float, Int

from pellucid.data.corpus import Corpus
from pellucid.errors import BadInput
from pellucid.ir.graph import Weight, leaves
from pellucid.ir.naming import all_nodes
from pellucid.ir.program import Program
from pellucid.ir.tensors import digest, read_tensors, write_tensors
from pellucid.words.reading.anchor import distance, unexplained
from pellucid.words.reading.install import MISSED, RULE, VALUES, WRITTEN
from pellucid.words.reading.running import Running, Seen, described_weights

More = Literal["decoders", "norms"]
"""What else can be tuned, none of it words: what latents write, gains (and shifts) of normalisation."""

STATE, NUMBERS = "tuning.json", "tuning.safetensors"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What Adam keeps of each tensor, by torch's names."""


@dataclass(frozen=True)
class Tuning:
    """How constants are tuned.

    Attributes:
        steps: at most.
        windows: in each step.
        rate: of Adam at the start, in standard deviations of the numbers tuned (in nats, for rules of heads).
        target: "network" (its own prediction) or "text" (the token that came next).
        mixed: share of steps in which each part runs by words only with probability one half.
        faithful: nats that it costs when words explain nothing of the MLPs any more, or tables of rules are off by
            one nat (`anchor`).
        more: what is tuned beside the constants of words.
        held: share of the windows that is held back.
        every: steps between two looks at them.
        patience: looks without progress after which tuning stops.
        seed: of the order of windows, and of what is held back.
    """

    steps: int = 400
    windows: int = 4
    rate: float = 0.01
    target: Literal["network", "text"] = "network"
    mixed: float = 0.25
    faithful: float = 2.0
    more: tuple[More, ...] = ("decoders",)
    held: float = 0.1
    every: int = 50
    patience: int = 3
    seed: int = 0


@dataclass(frozen=True)
class Look:
    """After how many steps the constants were looked at, and what was found, in nats a token: on the text of the steps
    since the last look (not a number before the first step), and on windows held back; and what descriptions cost that
    were given up (`Tuning.faithful`)."""

    step: int
    loss: float
    held: float
    given_up: float = 0.0

    @property
    def cost(self) -> float:
        """What tuning makes small."""
        return self.held + self.given_up


@dataclass(frozen=True)
class Tuned:
    """A program with tuned constants, and how it went; `kept` is the step whose constants it has."""

    program: Program
    looks: tuple[Look, ...]
    kept: int


def tune(
    program: Program,
    corpus: Corpus,
    tuning: Tuning | None = None,
    directory: Path | None = None,
    report: Callable[[Look], None] | None = None,
) -> Tuned:
    """Tune the constants of all words of a program (`install.install_words`) on a corpus they were not made from.

    Args:
        directory: where the state is kept; what is found there from the same call is gone on with.
        report: told after every look.

    Raises:
        BadInput: the program has no words, the corpus too few windows, or the directory holds another tuning.
    """
    course = _Course(program, corpus, tuning or Tuning())
    if directory is not None:
        course.resume(directory)
    while not course.finished:
        course.advance()
        if report is not None:
            report(course.looks[-1])
        if directory is not None:
            course.save(directory)
    return course.result()


class _Course:
    """The state of a tuning: parameters, Adam's moments, the best constants so far."""

    def __init__(self, program: Program, corpus: Corpus, tuning: Tuning) -> None:
        held = max(1, round(len(corpus) * tuning.held))
        if len(corpus) < held + tuning.windows:
            raise BadInput(
                f"corpus: {len(corpus)} windows to tune on are too few for steps of {tuning.windows} and {held} held"
                " back; give more text"
            )
        self.program, self.tuning = program, tuning
        self.running = Running(program, corpus)
        order = np.random.default_rng(tuning.seed).permutation(len(corpus))
        self.held, self.own = np.sort(order[:held]), np.sort(order[held:])
        rates = tuned_weights(program, tuning)
        self.parameters = {name: program.weights[name].clone().requires_grad_() for name in rates}
        self.rates = list(rates.values())
        groups = [
            {"params": [tensor], "lr": rate} for tensor, rate in zip(self.parameters.values(), self.rates, strict=True)
        ]
        self.adam = torch.optim.Adam(groups, betas=(0.9, 0.99))
        self.best = {name: tensor.detach().clone() for name, tensor in self.parameters.items()}
        self.tables = {name: program.weights[name] for name in rates if RULE in name}
        self.step = self.kept = 0
        self.looks: list[Look] = []
        self._key = _key(program, corpus, tuning, self.parameters)

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or the held-back windows have not improved for long."""
        return self.step >= self.tuning.steps or self.since >= self.tuning.patience

    @property
    def since(self) -> int:
        """Looks since the best one."""
        return sum(look.step > self.kept for look in self.looks)

    def advance(self) -> None:
        """Steps up to the next look, and the look; the first look comes before the first step."""
        losses: list[float] = []
        if self.looks:
            end = min(self.step + self.tuning.every, self.tuning.steps)
            losses = [self._descend(chosen, parts) for chosen, parts in self._batches(self.step, end)]
            self.running.forget()
        look = Look(self.step, float(np.mean(losses)) if losses else math.nan, *self._held_losses())
        if not self.looks or look.cost < min(look.cost for look in self.looks):
            self.kept = self.step
            self.best = {name: tensor.detach().clone() for name, tensor in self.parameters.items()}
        self.looks.append(look)

    def _batches(self, start: int, end: int) -> Iterator[tuple[Int[np.ndarray, " windows"], list[str]]]:
        """The windows of steps start … end, and the parts that run by words in each."""
        size = self.tuning.windows
        rounds = -(-self.tuning.steps * size // len(self.own))
        order = np.concatenate(
            [np.random.default_rng((self.tuning.seed, 1, r)).permutation(self.own) for r in range(rounds)]
        )
        for step in range(start, end):
            rng = np.random.default_rng((self.tuning.seed, 2, step))
            every = list(self.running.parts)
            if rng.random() < self.tuning.mixed:
                every = [part for part in every if rng.random() < 0.5] or every
            yield order[step * size : (step + 1) * size], every

    def _descend(self, chosen: Int[np.ndarray, " windows"], parts: list[str]) -> float:
        for group, rate in zip(self.adam.param_groups, self.rates, strict=True):
            group["lr"] = rate * _share_of_rate(self.step, self.tuning.steps)
        loss, given_up = self._losses(chosen, parts)
        self.adam.zero_grad()
        (loss + given_up).backward()  # type: ignore[no-untyped-call]
        self.adam.step()
        self.step += 1
        return float(loss.detach())

    def _losses(
        self, chosen: Int[np.ndarray, " windows"], parts: list[str] | None
    ) -> tuple[Float[torch.Tensor, ""], Float[torch.Tensor, ""]]:
        """The cross-entropy, and what it costs that words no longer describe their parts."""
        seen: Seen = {}
        found = self.running.logits(chosen, self.parameters, parts, seen)[:, 1:-1].log_softmax(-1)
        if self.tuning.target == "network":
            loss = -(self.running.wanted(chosen)[:, 1:-1].exp() * found).sum(-1).mean()
        else:
            following = torch.searchsorted(self.running.tokens, self.running.ids[chosen][:, 2:].contiguous())
            loss = -found.gather(-1, following[..., None]).mean()
        if self.tuning.faithful == 0:
            return loss, torch.zeros(())
        apart = unexplained(seen, self.running.real(chosen)) + distance(self.parameters, self.tables)
        return loss, self.tuning.faithful * apart

    def _held_losses(self) -> tuple[float, float]:
        size = self.tuning.windows
        sums = np.zeros(2)
        with torch.no_grad():
            for start in range(0, len(self.held), size):
                some = self.held[start : start + size]
                sums += len(some) * np.array([float(loss) for loss in self._losses(some, None)])
        loss, given_up = sums / len(self.held)
        return float(loss), float(given_up)

    def result(self) -> Tuned:
        """The program with the best constants."""
        program = replace(self.program, weights={**self.program.weights, **self.best})
        return Tuned(program, tuple(self.looks), self.kept)

    # ---- on disk

    def save(self, directory: Path) -> None:
        """Write the state, each file in one go; the numbers name the step they belong to."""
        directory.mkdir(parents=True, exist_ok=True)
        tensors: dict[str, torch.Tensor] = {}
        for name, tensor in self.parameters.items():
            moments = self.adam.state.get(tensor, {})
            tensors |= {f"now:{name}": tensor.detach(), f"best:{name}": self.best[name]}
            tensors |= {f"{key}:{name}": moments[key] for key in MOMENTS if key in moments}
        numbers = directory / NUMBERS
        write_tensors(numbers.with_suffix(".part"), tensors)
        numbers.with_suffix(".part").replace(directory / f"{self.step}-{NUMBERS}")
        state = {"key": self._key, "step": self.step, "kept": self.kept, "looks": [asdict(look) for look in self.looks]}
        part = directory / (STATE + ".part")
        part.write_text(json.dumps(state) + "\n", encoding="utf-8")
        part.replace(directory / STATE)
        for old in directory.glob(f"*-{NUMBERS}"):
            if old.name != f"{self.step}-{NUMBERS}":
                old.unlink()

    def resume(self, directory: Path) -> None:
        """Go on with what is in the directory, if anything is. Raises BadInput for a damaged or another tuning."""
        file = directory / STATE
        if not file.is_file():
            return
        try:
            state = json.loads(file.read_text(encoding="utf-8"))
            same = state["key"] == self._key
            self.looks = [
                Look(int(row["step"]), *(float(row[key]) for key in ("loss", "held", "given_up")))
                for row in state["looks"]
            ]
            step, self.kept = int(state["step"]), int(state["kept"])
        except (ValueError, KeyError, TypeError) as error:
            raise BadInput(f"{file}: damaged ({type(error).__name__}); delete the directory and tune again") from None
        if not same:
            raise BadInput(
                f"{directory}: it holds the tuning of another program, text or setting; give a new directory"
            )
        tensors = read_tensors(directory / f"{step}-{NUMBERS}")
        self.step = step
        with torch.no_grad():
            for name, tensor in self.parameters.items():
                tensor.copy_(tensors[f"now:{name}"])
                self.best[name] = tensors[f"best:{name}"].clone()
                if f"exp_avg:{name}" in tensors:
                    self.adam.state[tensor] = {key: tensors[f"{key}:{name}"].clone() for key in MOMENTS}


def tuned_weights(program: Program, tuning: Tuning) -> dict[str, float]:
    """The tensors that are tuned, and the rate of each."""
    rates: dict[str, float] = {}
    for names in described_weights(program).values():
        for name in names:
            table = not name.endswith((VALUES, f"{MISSED}.constant"))
            rates[name] = tuning.rate * (0.3 if table else _spread(program.weights[name]))
    for kind, share in (("decoders", 0.3), ("norms", 0.1)):
        if kind in tuning.more:
            rates |= {name: tuning.rate * share * _spread(program.weights[name]) for name in _more(program, kind)}
    return rates


def _spread(tensor: Float[torch.Tensor, "..."]) -> float:
    """The standard deviation of numbers; their size where they are all equal; 0.01 where they are 0."""
    found = float(tensor.std()) if tensor.numel() > 1 else 0.0
    return found or float(tensor.abs().mean()) or 0.01


def _more(program: Program, kind: str) -> list[str]:
    found = []
    for function in program.functions.values():
        for node in all_nodes(function.reading("weights").body):
            read = [leaf.name for leaf in leaves(node) if isinstance(leaf, Weight)]
            if kind == "norms" and node.op in ("rms_norm", "layer_norm"):
                found += read
            if kind == "decoders" and function.name.endswith(WRITTEN):
                found += [name for name in read if program.weights[name].is_floating_point()]
    return list(dict.fromkeys(found))


def _share_of_rate(step: int, steps: int) -> float:
    """Up over the first steps, then down along a cosine to a fiftieth."""
    return min(1.0, (step + 1) / 10) * (0.5 * (1 + math.cos(math.pi * step / steps)) + 0.02)


def _key(program: Program, corpus: Corpus, tuning: Tuning, parameters: Mapping[str, torch.Tensor]) -> str:
    starting = [(name, digest(tensor.detach())) for name, tensor in parameters.items()]
    told = repr((program.fingerprint, corpus.fingerprint, asdict(tuning), starting))
    return hashlib.sha256(told.encode()).hexdigest()
