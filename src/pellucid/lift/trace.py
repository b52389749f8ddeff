"""From a network to its graph.

1. `torch.export` captures one call, with every axis general that the network does not fix itself; changes in place
   become new values.
2. Each operation becomes a primitive (`conversions`), checks and no-ops fall away, each value keeps its module's path.
3. `reroll` folds unrolled loops, `recognise` folds what a person would name (norms, heads, rotary, activations).
4. The result is run beside the module on the same inputs; a rewriting that changes the output is left out.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import io
import logging
import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence, Set
from pathlib import PurePath
from typing import Any

import torch
from torch import nn
from torch.export import Dim, ExportedProgram, export
from torch.utils._pytree import tree_leaves, tree_map

from pellucid.errors import BadInput, CannotRun, CannotTrace
from pellucid.ir.graph import Graph, Ref, Weight
from pellucid.ir.interpret import run_graph
from pellucid.lift.functional import changes_in_place, made_functional, shares_memory
from pellucid.lift.importing import import_exported
from pellucid.lift.load import Network, load
from pellucid.lift.recognise import RULES, recognise
from pellucid.lift.reroll import FARTHER, generalise, reroll

_TORCH = str(PurePath(torch.__file__).parent)

TOLERANCE = 1e-4
"""Largest difference, relative to the largest output, that a rewriting may make on the traced inputs."""


def trace(model: nn.Module | Network, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None) -> Graph:
    """The dataflow of a network as it runs on `args` and `kwargs`, general in every axis that it leaves open.

    Args:
        model: a module or a loaded network; it is called as `model(*args, **kwargs)`.
        args, kwargs: example inputs, tensors or nested tuples of them; the graph takes them in this order, named ones
            in that of the module's signature. Axes of length 1 are taken as fixed, so give at least two samples.

    Raises:
        CannotTrace: torch cannot export the network; names the module and the line.
        BadInput: the network does not run on these inputs.
    """
    network = load(model)
    named = _in_signature_order(network.module, kwargs or {})
    expected = call_network(network, args, named)
    with quiet(), torch.no_grad(), _outputs_only(network.module):
        exported = network.exported or _export(network.module, tuple(args), named, {})
    graph = _imported(exported, network, args, named, expected)
    fixed = _fixed_by_weights(graph, _in_order(graph.block.inputs, args, named))
    if fixed and network.exported is None:
        with quiet(), torch.no_grad(), _outputs_only(network.module):
            exported = _export(network.module, tuple(args), named, fixed)
        graph = _imported(exported, network, args, named, expected)
    inputs = _in_order(graph.block.inputs, args, named)

    def holds(other: Graph) -> bool:
        return _holds_longer(graph, other, network, args, named)

    for rewrite in (reroll, lambda found: generalise(found, holds)):
        graph = _kept(rewrite(graph), graph, inputs, expected)
    recognised = recognise(graph)
    if _kept(recognised, graph, inputs, expected) is recognised:
        graph = recognised
    else:
        for rule in RULES:
            graph = _kept(recognise(graph, (rule,)), graph, inputs, expected)
    return graph.with_changes(remarks=(*_fixed_batches(graph), *graph.remarks))


def _imported(
    exported: ExportedProgram,
    network: Network,
    args: Sequence[object],
    kwargs: Mapping[str, object],
    expected: Sequence[torch.Tensor],
) -> Graph:
    """The graph of an exported program that computes `expected`; changes in place are rewritten where need be."""
    if shares_memory(exported):
        with quiet(), torch.no_grad():
            exported = made_functional(exported)
    graph = import_exported(exported, network.module)
    try:
        _check(graph, _in_order(graph.block.inputs, args, kwargs), expected)
    except CannotTrace:
        if not changes_in_place(exported):
            raise
        with quiet(), torch.no_grad():
            return _imported(made_functional(exported), network, args, kwargs, expected)
    return graph


def _kept(rewritten: Graph, graph: Graph, inputs: Sequence[Any], expected: Sequence[torch.Tensor]) -> Graph:
    """The rewritten graph, or the old one where the rewriting changed what is computed."""
    if rewritten is graph:
        return graph
    try:
        return rewritten if _gap(run_graph(rewritten, inputs), expected) <= TOLERANCE else graph
    except CannotRun:
        return graph


def _holds_longer(
    graph: Graph, opened: Graph, network: Network, args: Sequence[object], kwargs: Mapping[str, object]
) -> bool:
    """Whether the network computes what `opened` does when the axes that are general only there are longer."""
    inputs = _in_order(graph.block.inputs, args, kwargs)
    longer: dict[int, torch.Tensor] = {}
    for name, value in zip(graph.block.inputs, inputs, strict=True):
        axes = zip(graph.values[name].axes, opened.values[name].axes, strict=True)
        grown = value
        for i, (old, new) in enumerate(axes):
            if isinstance(old, int) and isinstance(new, str):
                grown = torch.cat([grown, grown.narrow(i, 0, min(FARTHER, old))], dim=i)
        longer[id(value)] = grown
    args, kwargs = tree_map(lambda leaf: longer.get(id(leaf), leaf), (tuple(args), dict(kwargs)))
    try:
        found = run_graph(opened, [longer[id(value)] for value in inputs])
        return _gap(found, call_network(network, args, kwargs)) <= TOLERANCE
    except (CannotRun, BadInput):
        return False


def _fixed_batches(graph: Graph) -> tuple[str, ...]:
    """Remarks on inputs whose first axis is fixed, where no input has a general number of samples."""
    if any("batch" in graph.values[name].axes for name in graph.block.inputs):
        return ()
    axes = [(name, graph.values[name]) for name in graph.block.inputs]
    fixed = [f"{name} {kind}" for name, kind in axes if kind.axes and isinstance(kind.axes[0], int)]
    return tuple(f"the network takes only this number of samples at once: {text}" for text in fixed)


def call_network(network: Network, args: Sequence[object], kwargs: Mapping[str, object]) -> tuple[torch.Tensor, ...]:
    """The tensors that the live module returns, flattened in order.

    Raises:
        BadInput: the module does not take these inputs.
    """
    try:
        with torch.no_grad(), _outputs_only(network.module), quiet():
            given, named = tree_map(
                lambda leaf: leaf.clone() if _is_tensor(leaf) else leaf, (tuple(args), dict(kwargs))
            )
            outputs = tree_leaves(network.module(*given, **named))
    except (RuntimeError, TypeError, ValueError, IndexError, AssertionError) as error:
        raise BadInput(f"the network does not run on the given inputs: {_first_line(error)}; check them") from error
    return tuple(leaf for leaf in outputs if isinstance(leaf, torch.Tensor))


def _in_signature_order(module: nn.Module, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    order = [name for name in inspect.signature(module.forward).parameters if name in kwargs]
    return {name: kwargs[name] for name in (*order, *(name for name in kwargs if name not in order))}


def _fixed_by_weights(graph: Graph, inputs: Sequence[Any]) -> Mapping[int, Set[int]]:
    """The axes of inputs (by the identity of the tensor) that export left open and a weight fixes.

    Where a picture is flattened for a dense layer, export says only that width times height is what the layer takes.
    """
    fixed: set[str] = set()
    for node in graph.block.nodes:
        if node.op == "linear" and isinstance(node.args[0], Ref) and isinstance(node.args[1], Weight):
            kind = graph.values.get(node.args[0].name)
            fixed |= set(re.findall(r"[A-Za-z_]\w*", str(kind.axes[-1]))) if kind is not None and kind.axes else set()
    found: dict[int, set[int]] = {}
    for name, value in zip(graph.block.inputs, inputs, strict=True):
        axes = {i for i, axis in enumerate(graph.values[name].axes) if axis in fixed}
        if axes:
            found[id(value)] = axes
    return found


def _export(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], fixed: Mapping[int, Set[int]]
) -> ExportedProgram:
    shapes = _general_axes(module, args, kwargs, fixed)
    errors: list[Exception] = []
    for dynamic in (shapes, None):
        try:
            with contextlib.redirect_stderr(io.StringIO()):  # torch prints the graph it could not finish
                return export(module, args, kwargs, dynamic_shapes=dynamic, strict=False)
        except Exception as error:  # noqa: BLE001 - torch.export raises whatever the traced code raises
            errors.append(error)
    raise CannotTrace(_why(module, errors[-1])) from errors[-1]


def _general_axes(
    module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any], fixed: Mapping[int, Set[int]]
) -> dict[str, Any]:
    """Every axis general that is not fixed, in the structure that torch.export wants: by parameter name."""

    def open_axes(leaf: object) -> Any:
        if not isinstance(leaf, torch.Tensor):
            return None
        return {axis: Dim.AUTO for axis in range(leaf.ndim) if axis not in fixed.get(id(leaf), ())}

    def general(value: object) -> Any:
        return tree_map(open_axes, value)

    signature = inspect.signature(module.forward)
    shapes: dict[str, Any] = {}
    for name, value in signature.bind(*args, **kwargs).arguments.items():
        kind = signature.parameters[name].kind
        if kind is inspect.Parameter.VAR_KEYWORD:
            shapes[name] = {key: general(entry) for key, entry in value.items()}
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
        if code.co_name == "forward" and not code.co_filename.startswith(_TORCH) and code.co_argcount:
            owner = type(frame.tb_frame.f_locals.get(code.co_varnames[0])).__name__
            place = f" in {owner}.forward ({PurePath(code.co_filename).name}:{frame.tb_lineno})"
        frame = frame.tb_next
    return (
        f"torch.export cannot trace {type(module).__name__}{place}: {_first_line(error)}; replace branches on "
        "the values of tensors there by torch.where, or decompile the submodules around it"
    )


def _first_line(error: Exception) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)


def _in_order(names: Sequence[str], args: Sequence[object], kwargs: Mapping[str, object]) -> list[Any]:
    """The given inputs as the graph takes them: named ones by name, the others in order.

    Raises:
        BadInput: the graph takes other inputs than those given.
    """
    positional = iter([leaf for leaf in tree_leaves(tuple(args)) if _is_tensor(leaf)])
    nested = iter([leaf for value in kwargs.values() if not _is_tensor(value) for leaf in tree_leaves(value)])
    found = []
    for name in names:
        value = kwargs[name] if name in kwargs else next(positional, None)
        value = next(nested, None) if value is None else value
        if not _is_tensor(value):
            raise BadInput(f"the network takes {', '.join(names)}; the example inputs hold no tensor for {name!r}")
        found.append(value)
    return found


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


def _check(graph: Graph, inputs: Sequence[Any], expected: Sequence[torch.Tensor]) -> None:
    try:
        gap = _gap(run_graph(graph, inputs), expected)
    except CannotRun as error:
        raise CannotTrace(f"the exported graph does not run: {error}; please report it with the module") from error
    if gap > TOLERANCE:
        raise CannotTrace(
            f"the exported graph differs from the network by {gap:.1e} of the largest output; "
            "is it random or stateful (dropout on, batch statistics)? Call .eval() and remove randomness"
        )


def _gap(found: Sequence[Any], expected: Sequence[torch.Tensor]) -> float:
    """The largest difference between outputs, relative to the largest entry of each."""
    if len(found) != len(expected):
        return math.inf
    return max((_difference(a, b) for a, b in zip(found, expected, strict=True)), default=0.0)


def _difference(a: Any, b: torch.Tensor) -> float:
    if not isinstance(a, torch.Tensor) or a.shape != b.shape or a.dtype != b.dtype:
        return math.inf
    same = (a == b) | ((a != a) & (b != b))
    if bool(same.all()):
        return 0.0
    wide = torch.complex128 if b.is_complex() else torch.float64
    finite = b[b.isfinite()].to(wide).abs()
    gap = float((a.to(wide) - b.to(wide)).abs()[~same].max())
    scale = float(finite.max()) if finite.numel() else 0.0
    return gap / max(scale, 1e-30) if math.isfinite(gap) else math.inf


@contextlib.contextmanager
def _outputs_only(module: nn.Module) -> Iterator[None]:
    """Hugging Face models meanwhile return their outputs without caches, which torch.export does not know."""
    if getattr(module, "config", None) is None or "forward" in vars(module):
        yield
        return
    forward = module.forward

    @functools.wraps(forward)
    def without_cache(*args: object, **kwargs: object) -> object:
        outputs = forward(*args, **kwargs)
        if not isinstance(outputs, Mapping):
            return outputs
        return {name: value for name, value in outputs.items() if isinstance(value, torch.Tensor | tuple | list)}

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
