"""From a network to its graph.

1. `torch.export` captures one call, with every axis general that the network does not fix itself.
2. Each operation becomes a primitive (`conversions`), checks and no-ops fall away, each value keeps its module's path.
3. `reroll` folds unrolled loops, `recognise` folds what a person would name (norms, heads, rotary, activations).
4. The result is run beside the module on the same inputs; a rewriting that changes the output is left out.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, export
from torch.utils._pytree import tree_leaves

from pellucid.errors import BadInput, CannotRun, CannotTrace
from pellucid.ir.graph import Graph
from pellucid.ir.interpret import run_graph
from pellucid.lift.importing import import_exported
from pellucid.lift.load import Network, load
from pellucid.lift.recognise import recognise
from pellucid.lift.reroll import reroll

TOLERANCE = 1e-4
"""Largest difference, relative to the largest output, that a rewriting may make on the traced inputs."""


def trace(
    model: nn.Module | Network, args: Sequence[torch.Tensor] = (), kwargs: Mapping[str, torch.Tensor] | None = None
) -> Graph:
    """The dataflow of a network as it runs on `args` and `kwargs`, general in every axis that it leaves open.

    Args:
        model: a module or a loaded network; it is called as `model(*args, **kwargs)`.
        args, kwargs: example inputs; axes of length 1 are taken as fixed, so give at least two samples.

    Raises:
        CannotTrace: torch cannot export the network; names the module and the line.
        BadInput: the network does not run on these inputs.
    """
    network = load(model)
    named = dict(kwargs or {})
    expected = call_network(network, args, named)
    with quiet(), torch.no_grad(), _outputs_only(network.module):
        exported = network.exported or _export(network.module, tuple(args), named)
    graph = import_exported(exported, network.module)
    inputs = _in_order(graph.block.inputs, args, named)
    _check(graph, inputs, expected, "import")
    for rewrite in (reroll, recognise):
        with contextlib.suppress(_Changed):
            rewritten = rewrite(graph)
            _check(rewritten, inputs, expected, rewrite.__name__)
            graph = rewritten
    return graph


class _Changed(Exception):
    """A rewriting changed the output; it is left out."""


def call_network(network: Network, args: Sequence[object], kwargs: Mapping[str, object]) -> tuple[torch.Tensor, ...]:
    """The tensors that the live module returns, flattened in order.

    Raises:
        BadInput: the module does not take these inputs.
    """
    try:
        with torch.no_grad(), _outputs_only(network.module), quiet():
            outputs = tree_leaves(network.module(*args, **kwargs))
    except (RuntimeError, TypeError, ValueError, IndexError, AssertionError) as error:
        raise BadInput(f"the network does not run on the given inputs: {_first_line(error)}; check them") from error
    return tuple(leaf for leaf in outputs if isinstance(leaf, torch.Tensor))


def _export(module: nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor]) -> ExportedProgram:
    shapes = _general_axes(module, args, kwargs)
    errors: list[Exception] = []
    for dynamic in (shapes, None):
        try:
            return export(module, args, kwargs, dynamic_shapes=dynamic, strict=False)
        except Exception as error:  # noqa: BLE001 - torch.export raises whatever the traced code raises
            errors.append(error)
    raise CannotTrace(_why(module, errors[-1])) from errors[-1]


def _general_axes(
    module: nn.Module, args: Sequence[torch.Tensor], kwargs: Mapping[str, torch.Tensor]
) -> dict[str, Any]:
    """Every axis of every input general, in the structure that torch.export wants: by parameter name."""

    def general(value: object) -> dict[int, Any] | None:
        return {i: Dim.AUTO for i in range(value.ndim)} if isinstance(value, torch.Tensor) else None

    signature = inspect.signature(module.forward)
    shapes: dict[str, Any] = {}
    for name, value in signature.bind(*args, **kwargs).arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            shapes.update({key: general(entry) for key, entry in value.items()})
        elif kind is inspect.Parameter.VAR_POSITIONAL:
            shapes[name] = tuple(general(entry) for entry in value)
        else:
            shapes[name] = general(value)
    return shapes


def _why(module: nn.Module, error: Exception) -> str:
    place = ""
    frame = error.__traceback__
    while frame is not None:
        code = frame.tb_frame.f_code
        if code.co_name == "forward" and "torch/" not in code.co_filename:
            owner = type(frame.tb_frame.f_locals.get("self")).__name__
            place = f" in {owner}.forward ({code.co_filename.rsplit('/', 1)[-1]}:{frame.tb_lineno})"
        frame = frame.tb_next
    return (
        f"torch.export cannot trace {type(module).__name__}{place}: {_first_line(error)}; replace branches on "
        "the values of tensors there by torch.where or torch.cond, or decompile the submodules around it"
    )


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _in_order(names: Sequence[str], args: Sequence[object], kwargs: Mapping[str, object]) -> list[object]:
    """The given inputs as the graph takes them: named ones by name, the others in order."""
    positional = iter([value for value in args if isinstance(value, torch.Tensor)])
    return [kwargs[name] if name in kwargs else next(positional) for name in names]


def _check(graph: Graph, inputs: Sequence[Any], expected: Sequence[torch.Tensor], stage: str) -> None:
    try:
        found = run_graph(graph, inputs)
    except CannotRun as error:
        if stage == "import":
            raise CannotTrace(f"the exported graph does not run: {error}; please report it with the module") from error
        raise _Changed(stage) from error
    gap = max((_difference(a, b) for a, b in zip(found, expected, strict=True)), default=0.0)
    if gap > TOLERANCE:
        if stage == "import":
            raise CannotTrace(
                f"the exported graph differs from the network by {gap:.1e} of the largest output; "
                "is it random or stateful (dropout on, batch statistics)? Call .eval() and remove randomness"
            )
        raise _Changed(stage)


def _difference(a: Any, b: torch.Tensor) -> float:
    if not isinstance(a, torch.Tensor) or a.shape != b.shape:
        return float("inf")
    scale = b.abs().max().item() if b.numel() else 0.0
    return float((a.double() - b.double()).abs().max().item() / max(scale, 1e-30)) if b.numel() else 0.0


@contextlib.contextmanager
def _outputs_only(module: nn.Module) -> Iterator[None]:
    """Hugging Face models meanwhile return their outputs without the key-value cache, which is no tensor."""
    if getattr(module, "config", None) is None or "forward" in vars(module):
        yield
        return
    forward = module.forward

    @functools.wraps(forward)
    def without_cache(*args: object, **kwargs: object) -> object:
        outputs = forward(*args, **kwargs)
        if not isinstance(outputs, Mapping):
            return outputs
        return {name: value for name, value in outputs.items() if name != "past_key_values"}

    module.forward = without_cache
    try:
        yield
    finally:
        del module.forward


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep torch's notices about axes it specialises off the terminal; what matters is in the graph's remarks."""
    loggers = [logging.getLogger(name) for name in ("torch._export", "torch.fx", "torch.export", "torch._dynamo")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
