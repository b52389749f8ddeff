"""Training of small recurrent nets, many at once: h₀ = 0, hₜ = MLP([hₜ₋₁, xₜ]), yₜ = MLP(hₜ), ReLU inside.

Nets of several hidden sizes and widths and seeds are stacked and trained together by Adam, each with a learning rate of
its own, on sequences that grow from length 2 to 10 (16 at the end); a smaller net in the stack has weights that are
zero and stay so, because units without weights on both sides have no gradient. The worst are dropped twice (successive
halving; K. Jamieson, A. Talwalkar, 2016). A share of each batch are sequences that were wrong before. The few that are
left are polished by L-BFGS in double precision, then on errors that are left in many more sequences (never those of the
test); the smallest that makes no error on the test is kept.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mips_stack import Adam, Net, Size, Stack, build, columns, forward_all, initial, net_of, parameters
from mips_tasks import Shapes, Task, Whole
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional


@dataclass(frozen=True)
class Effort:
    """Members that are trained side by side, batch size and steps, in each of three rounds; and how many times as many
    steps the first, second, … attempt takes."""

    members: tuple[int, ...] = (24, 10, 4)
    batches: tuple[int, ...] = (96, 192, 384)
    steps: tuple[int, ...] = (700, 1500, 2500)
    attempts: tuple[float, ...] = (1.0, 3.0)
    polish: int = 60


LENGTH, LONGER = 10, 16
_EXAM = 20_000
_GOOD = 5e-5
"""Score of a net that makes no error on the sequences tried and stays within 0.05 of the answers."""
_HOPELESS, _NEARLY, _MENDINGS = 0.1, 2e-3, 3
_POLISHED, _ROUNDS, _MINED = 2, 6, 50_000


def _errors(stack: Stack, deep: int, x: Whole, y: Whole) -> tuple[torch.Tensor, np.ndarray]:
    """Of each member the share of wrong sequences, plus a little of its loss; and which are wrong for the best."""
    with torch.no_grad():
        gap = (forward_all(stack, deep, columns(x)) - columns(y)).abs().nan_to_num(1e6, 1e6, 1e6)
    wrong = (gap >= 0.45).any(-1).any(1).float()
    score = wrong.mean(1) + 1e-3 * gap.clamp(max=10).mean((1, 2, 3))
    return score, wrong[score.argmin()].numpy() > 0


@dataclass(frozen=True)
class Trained:
    """A net, its shape, whether it made no error on the test, and its share of wrong test sequences."""

    net: Net
    size: Size
    perfect: bool
    wrong: float
    attempt: int


def train(task: Task, seed: int, tests: Whole, answers: Whole, effort: Effort, tried: int = 0) -> Trained:
    """The smallest perfect net of the first attempt that has one, or the best of all; `tried` attempts are left out."""
    best: Trained | None = None
    for attempt in range(tried, len(effort.attempts)):
        longer = tuple(int(steps * effort.attempts[attempt]) for steps in effort.steps)
        each = dataclasses.replace(effort, steps=longer)
        for net, size in _attempt(task, seed, attempt, answers.shape[2], each):
            candidate = _examined(net, size, tests, answers, attempt)
            if 0 < candidate.wrong < _NEARLY:
                candidate = _again(task, candidate, seed, tests, answers, effort)
            if best is None or candidate.wrong < best.wrong:
                best = candidate
            if best.perfect:
                return best
    assert best is not None
    return best


def _again(task: Task, trained: Trained, seed: int, tests: Whole, answers: Whole, effort: Effort) -> Trained:
    """A net that makes very few errors, mended on other sequences (never those of the test)."""
    best = trained
    for number in range(_MENDINGS):
        rng = np.random.default_rng([seed, 8, number, *task.name.encode()])
        linear = [part for part in best.net.modules() if isinstance(part, nn.Linear)]
        stack = [w for part in linear for w in (part.weight.detach().T[None], part.bias.detach()[None, None])]
        _, mended = _mended(task, [w.clone(memory_format=torch.contiguous_format) for w in stack], rng, effort)
        net = net_of(task, answers.shape[2], trained.size, mended)
        best = min(best, _examined(net, trained.size, tests, answers, trained.attempt), key=lambda t: t.wrong)
        if best.perfect:
            break
    return best


def _examined(net: Net, size: Size, tests: Whole, answers: Whole, attempt: int) -> Trained:
    with torch.no_grad():
        parts = [net(torch.from_numpy(tests[i : i + _EXAM]).float()) for i in range(0, len(tests), _EXAM)]
    wrong = (torch.cat(parts).round() != torch.from_numpy(answers)).any(-1).any(-1).double().mean()
    return Trained(net, size, float(wrong) == 0.0, float(wrong), attempt)


def _attempt(task: Task, seed: int, attempt: int, outputs: int, effort: Effort) -> list[tuple[Net, Size]]:
    """Nets that look perfect, the smallest first; if there is none, the best."""
    rng = np.random.default_rng([seed, attempt, *task.name.encode()])
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    sizes = _sizes(task.shapes, effort.members[0])
    costs = torch.tensor([float(parameters(size, len(task.channels), outputs)) for size in sizes])
    stack = initial(task, outputs, sizes, generator)
    lowest, highest = (3e-4, 3e-2) if task.shapes.depths[0] == 1 else (1e-3, 1.5e-2)
    rates = torch.exp(torch.rand(len(sizes), generator=generator) * np.log(highest / lowest) + np.log(lowest))
    deep, kept = task.shapes.depths[0], torch.arange(len(sizes))
    optimiser = Adam([w.requires_grad_() for w in stack], rates)
    for number, members in enumerate(effort.members):
        if number:
            x = task.draw(rng, 1024, LENGTH)
            score, _ = _errors(optimiser.stack, deep, x, task.answer(x))
            chosen = torch.where(score < _GOOD, costs[kept] * 1e-9, score).argsort()[:members]
            optimiser.keep(chosen)
            kept = kept[chosen]
        _round(task, optimiser, effort, number, rng)
    return _finish(task, optimiser.stack, [sizes[int(i)] for i in kept], rng, effort)


def _round(task: Task, optimiser: Adam, effort: Effort, number: int, rng: np.random.Generator) -> None:
    """One round of training; it ends early when enough of its members make no error."""
    steps, batch, total, deep = effort.steps[number], effort.batches[number], sum(effort.steps), task.shapes.depths[0]
    before, last = sum(effort.steps[:number]), number + 1 == len(effort.steps)
    pool = task.draw(rng, 64, LENGTH)
    for i in range(steps):
        done = (before + i) / total
        length = LONGER if last and i % 4 == 3 else min(LENGTH, 2 + int(32 * done))
        x = task.draw(rng, batch, length)
        if length == LENGTH:
            x[: batch // 4] = pool[rng.integers(len(pool), size=batch // 4)]
        gradients = torch.autograd.grad(_loss(optimiser.stack, deep, task, x), optimiser.stack)
        optimiser.step(gradients, 0.5 * (1 + np.cos(np.pi * max(0.0, 2 * done - 1))) + 1e-3)
        if i % 100 == 99:
            x = task.draw(rng, 1024, LENGTH)
            score, wrong = _errors(optimiser.stack, deep, x, task.answer(x))
            pool = np.concatenate([x[wrong], pool])[:512]
            if (score < _GOOD).sum() >= (len(score) + 1) // 2 and i >= 300:
                return


def _loss(stack: Stack, deep: int, task: Task, x: Whole) -> torch.Tensor:
    """Sum over the members of the mean error: quadratic near the answer, linear far from it."""
    y = columns(task.answer(x))
    made = forward_all(stack, deep, columns(x))
    return functional.smooth_l1_loss(made, y.expand_as(made), reduction="sum") / y.numel()


def _sizes(shapes: Shapes, members: int) -> list[Size]:
    mixed = [Size(h, w, shapes.depths) for h in shapes.hidden for w in shapes.widths]
    return [mixed[i % len(mixed)] for i in range(members)]


def _finish(
    task: Task, stack: Stack, sizes: Sequence[Size], rng: np.random.Generator, effort: Effort
) -> list[tuple[Net, Size]]:
    """Polish what is left, the smallest of the good ones first, until one makes no error; the best first."""
    deep, outputs = task.shapes.depths[0], stack[-1].shape[2]
    x = task.draw(rng, 1024, LENGTH)
    score, _ = _errors(stack, deep, x, task.answer(x))
    costs = torch.tensor([float(parameters(size, len(task.channels), outputs)) for size in sizes])
    found = []
    for member in torch.where(score < _GOOD, costs * 1e-9, score).argsort()[:_POLISHED].tolist():
        wrong, best = _mended(task, [w.detach()[member : member + 1] for w in stack], rng, effort)
        found.append((wrong, len(found), net_of(task, outputs, sizes[member], best), sizes[member]))
        if not wrong:
            break
    return [(net, size) for _, _, net, size in sorted(found, key=lambda entry: entry[:2])]


def _mended(task: Task, stack: Stack, rng: np.random.Generator, effort: Effort) -> tuple[float, Stack]:
    """Share of errors and weights after rounds of L-BFGS, each on the errors that were left and as many others."""
    deep, seen = task.shapes.depths[0], task.draw(rng, 256, LENGTH)
    best, least = stack, 2.0
    for number in range(_ROUNDS):
        x = task.draw(rng, _MINED if number else 4096, LENGTH)
        score, wrong = _errors(stack, deep, x, task.answer(x))
        if float(score[0]) < least:
            best, least = stack, float(score[0])
        if (number and not wrong.any()) or least > _HOPELESS:
            return float(wrong.mean()), best
        seen = np.concatenate([x[wrong][:256], task.draw(rng, 256, LENGTH), seen])[:1024]
        stack = _polished(best, deep, seen, task.answer(seen), effort.polish)
    x = task.draw(rng, _MINED, LENGTH)
    _, wrong = _errors(best, deep, x, task.answer(x))
    return float(wrong.mean()), best


def _polished(stack: Stack, deep: int, x: Whole, y: Whole, steps: int) -> Stack:
    """The weights after L-BFGS on some sequences, in double precision."""
    mask = [(w != 0).double() for w in stack]
    free = [w.double().clone().requires_grad_() for w in stack]
    inputs, wanted = columns(x).double(), columns(y).double()
    optimiser = torch.optim.LBFGS(free, max_iter=steps, history_size=30, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimiser.zero_grad()
        made = forward_all([w * m for w, m in zip(free, mask, strict=True)], deep, inputs)
        loss = functional.smooth_l1_loss(made, wanted.expand_as(made))
        loss.backward()
        return loss

    optimiser.step(closure)
    return [(w.detach() * m).float() for w, m in zip(free, mask, strict=True)]


# ---- nets that were trained before

TESTS = 100_000


def cache() -> Path:
    """Where trained nets are kept between runs."""
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "pellucid" / "mips-62"


def obtain(task: Task, seed: int, effort: Effort = Effort()) -> Trained:
    """The net of a task, from the cache or trained now."""
    path, (kept, tried) = _place(task, seed), _kept(task, seed)
    if kept is not None and (kept.perfect or tried >= len(effort.attempts)):
        return kept
    tests = task.draw(np.random.default_rng([seed, 1, *task.name.encode()]), TESTS, LENGTH)
    found = kept
    if kept is not None and kept.wrong < _NEARLY:
        found = _again(task, kept, seed, tests, task.answer(tests), effort)
    if found is None or not found.perfect:
        fresh = train(task, seed, tests, task.answer(tests), effort, tried)
        found = fresh if found is None or fresh.wrong < found.wrong else found
    told = {**dataclasses.asdict(found.size), **{n: getattr(found, n) for n in ("perfect", "wrong", "attempt")}}
    path.parent.mkdir(parents=True, exist_ok=True)
    for measured in path.parent.glob(f"{task.name}.*json"):
        measured.unlink()
    save_file(found.net.state_dict(), path, {"trained": json.dumps({**told, "tried": len(effort.attempts)})})
    return found


def trained_before(task: Task, seed: int) -> Trained | None:
    """The net of a task from the cache, if it is there."""
    return _kept(task, seed)[0]


def _place(task: Task, seed: int) -> Path:
    return cache() / f"seed-{seed}" / f"{task.name}.safetensors"


def _kept(task: Task, seed: int) -> tuple[Trained | None, int]:
    """A net from the cache, and how many attempts it took or was given."""
    path = _place(task, seed)
    if not path.is_file():
        return None, 0
    outputs = task.answer(task.draw(np.random.default_rng(0), 1, 1)).shape[2]
    with safe_open(path, "pt") as file:
        told = json.loads(file.metadata()["trained"])
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    size = Size(told["hidden"], told["width"], tuple(told["depths"]))
    net = build(len(task.channels), outputs, size.hidden, size.width, size.depths)
    net.load_state_dict(weights)
    return Trained(net.eval(), size, told["perfect"], told["wrong"], told["attempt"]), told["tried"]


def train_shuffled(task: Task, size: Size, seed: int, count: int = 1_000, steps: int = 1_500) -> Net:
    """A net of a shape, trained on sequences with their answers shuffled, over sequences and steps."""
    rng, generator = np.random.default_rng([seed, 9]), torch.Generator().manual_seed(seed)
    x = task.draw(rng, count, LENGTH)
    y = columns(rng.permutation(task.answer(x).reshape(count * LENGTH, -1)).reshape(count, LENGTH, -1))
    inputs, deep = columns(x), size.depths[0]
    stack = [w.requires_grad_() for w in initial(task, y.shape[2], [size], generator)]
    optimiser = Adam(stack, torch.tensor([3e-3]))
    for _ in range(steps):
        rows = torch.from_numpy(rng.integers(count, size=256))
        loss = functional.smooth_l1_loss(forward_all(optimiser.stack, deep, inputs[:, rows])[0], y[:, rows])
        optimiser.step(torch.autograd.grad(loss, optimiser.stack), 1.0)
    return net_of(task, y.shape[2], size, [w.detach() for w in optimiser.stack])
