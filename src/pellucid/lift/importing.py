"""From torch's exported program to a graph.

Placeholders become inputs and weights, operations become primitives by the tables of `conversions`, results of several
values get one name each, and the symbols of general axes get names: "batch", "seq" for the first two axes of the first
input, else "n1", "n2"… Values that nothing reads are dropped at the end.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

import torch
from torch import fx, nn
from torch.export import ExportedProgram
from torch.export.graph_signature import InputKind, OutputKind

from pellucid.errors import CannotTrace
from pellucid.ir.graph import Arg, Axis, Block, CalledModule, Graph, Node, Ref, ValueType, Weight, map_arg, refs
from pellucid.lift.conversions import DROPPED, NUMBERS, PACKETS

_SCOPE_NOISE = "_empty_nn_module_stack_from_metadata_hook"


@dataclass
class _Importer:
    """What has been imported so far: `known` maps torch's node names to our arguments."""

    known: dict[str, Arg] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    values: dict[str, ValueType] = field(default_factory=dict)
    modules: dict[str, CalledModule] = field(default_factory=dict)
    symbols: dict[str, str] = field(default_factory=dict)


def import_exported(exported: ExportedProgram, module: nn.Module) -> Graph:
    """The graph of an exported program; `module` gives the name of its class to the outermost scope.

    Raises:
        CannotTrace: the network changes its own buffers, or returns something that is no tensor.
    """
    state = _Importer(modules={"": CalledModule(type(module).__name__, "")})
    inputs, weights = _import_placeholders(exported, state)
    for node in exported.graph.nodes:
        if node.op == "call_function":
            _import_call(node, state)
    outputs = _import_outputs(exported, state)
    block = drop_unused(Block(inputs, tuple(state.nodes), outputs))
    used = {leaf.name for node in block.nodes for leaf in _weights_of(node)}
    remarks = _fixed_axes(inputs, state.values)
    return Graph(
        block, state.values, {name: tensor for name, tensor in weights.items() if name in used}, state.modules, remarks
    )


def _weights_of(node: Node) -> list[Weight]:
    found: list[Weight] = []
    for arg in (*node.args, *(value for _, value in node.kwargs)):
        map_arg(lambda leaf: found.append(leaf) if isinstance(leaf, Weight) else None, arg)
    return found


def drop_unused(block: Block) -> Block:
    """The block without nodes whose values nothing reads."""
    needed, kept = set(block.outputs), []
    for node in reversed(block.nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(refs(node))
    return Block(block.inputs, tuple(reversed(kept)), block.outputs)


def _import_placeholders(
    exported: ExportedProgram, state: _Importer
) -> tuple[tuple[str, ...], dict[str, torch.Tensor]]:
    placeholders = {node.name: node for node in exported.graph.nodes if node.op == "placeholder"}
    stores: tuple[Mapping[str, Any], ...] = (exported.state_dict, exported.constants)
    inputs: list[str] = []
    weights: dict[str, torch.Tensor] = {}
    for spec in exported.graph_signature.input_specs:
        name = spec.arg.name
        if spec.kind is InputKind.USER_INPUT:
            value = placeholders[name].meta.get("val")
            if isinstance(value, torch.Tensor):
                _name_symbols(value, not inputs, state)
                state.known[name] = Ref(name)
                state.values[name] = _type_of(value, state)
                inputs.append(name)
            else:
                state.known[name] = getattr(spec.arg, "value", None)
        elif spec.kind in (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR):
            target = str(spec.target)
            tensor = next((store[target] for store in stores if target in store), None)
            if not isinstance(tensor, torch.Tensor):
                raise CannotTrace(f"the export holds no tensor for {target!r}; export the network again")
            weights[target], state.known[name] = tensor.detach(), Weight(target)
        else:
            raise CannotTrace(
                f"the network holds {spec.kind.name.lower()} {spec.target!r}; only tensors can be decompiled"
            )
    return tuple(inputs), weights


def _import_call(node: fx.Node, state: _Importer) -> None:
    target = node.target
    if getattr(target, "__name__", "") == "getitem" and not hasattr(target, "_schema"):
        whole, position = node.args
        state.known[node.name] = state.known[f"{whole.name}[{position}]"]  # type: ignore[union-attr]
        return
    schema = getattr(target, "_schema", None)
    if schema is None:
        _append(node, _number_step(node, state), state)
        return
    packet = schema.name.split("::")[-1]
    if packet in DROPPED:
        return
    if schema.name.split("::")[0] != "aten":
        raise CannotTrace(f"operation {schema.name!r} is no part of torch itself; replace it by torch operations")
    arguments = _arguments(node, schema, state)
    if packet == "to":
        dtype = arguments.get("dtype")
        step: Any = ("same", (arguments["self"],)) if dtype in (None, _dtype(arguments["self"], state)) else None
        step = step or ("cast", (arguments["self"], dtype))
    else:
        convert = PACKETS.get(packet)
        step = convert(_with_dtype(arguments, node)) if convert is not None else None
    if step is None:
        _append_opaque(node, schema, arguments, state)
    else:
        _append(node, _simplified(step, node, state), state)


def _dtype(arg: Arg, state: _Importer) -> str | None:
    return state.values[arg.name].dtype if isinstance(arg, Ref) and arg.name in state.values else None


def _with_dtype(arguments: dict[str, Any], node: fx.Node) -> dict[str, Any]:
    """The element type of the result where the operation leaves it open."""
    value = node.meta.get("val")
    if arguments.get("dtype", 0) is None and isinstance(value, torch.Tensor):
        return {**arguments, "dtype": str(value.dtype).removeprefix("torch.")}
    return arguments


def _simplified(step: tuple[str, tuple[Arg, ...]], node: fx.Node, state: _Importer) -> tuple[str, tuple[Arg, ...]]:
    """No-ops by value: adding 0 and multiplying by 1, where neither shape nor element type changes."""
    op, args = step
    neutral = (op in ("add", "sub") and args[1] == 0) or (op in ("mul", "div") and args[1] == 1)
    first = args[0] if args else None
    value = node.meta.get("val")
    unchanged = (
        isinstance(first, Ref)
        and isinstance(value, torch.Tensor)
        and state.values.get(first.name) == _type_of(value, state)
    )
    if unchanged and (
        (neutral and not isinstance(args[1], bool | Ref | Weight)) or op in ("expand", "reshape", "cast")
    ):
        return "same", (args[0],)
    return step


def _number_step(node: fx.Node, state: _Importer) -> tuple[str, tuple[Arg, ...]]:
    name = getattr(node.target, "__name__", str(node.target))
    if name not in NUMBERS:
        place = _source(node)
        raise CannotTrace(
            f"the size computation {name!r} ({place}) is not supported; use whole-number arithmetic there"
        )
    return NUMBERS[name], tuple(_arg(value, state) for value in node.args)


def _arguments(node: fx.Node, schema: Any, state: _Importer) -> dict[str, Any]:
    named: dict[str, Any] = {}
    for position, parameter in enumerate(schema.arguments):
        if position < len(node.args):
            named[parameter.name] = _arg(node.args[position], state)
        elif parameter.name in node.kwargs:
            named[parameter.name] = _arg(node.kwargs[parameter.name], state)
        else:
            named[parameter.name] = _arg(parameter.default_value, state) if parameter.has_default_value() else None
    parts = node.meta.get("val")
    if isinstance(parts, torch.Tensor):
        named["rank"] = parts.ndim
    kernel = node.args[1] if len(node.args) > 1 else None
    if isinstance(named.get("padding"), str) and isinstance(kernel, fx.Node):
        named["kernel"] = tuple(int(size) for size in kernel.meta["val"].shape[2:])
    if isinstance(parts, tuple | list) and isinstance(named.get("dim"), int):
        named["part_sizes"] = tuple(part.shape[named["dim"]] for part in parts if isinstance(part, torch.Tensor))
    return named


def _arg(value: Any, state: _Importer) -> Arg:
    if isinstance(value, fx.Node):
        return state.known[value.name]
    if isinstance(value, list | tuple | torch.Size):
        return tuple(_arg(item, state) for item in value)
    if isinstance(value, torch.dtype):
        return str(value).removeprefix("torch.")
    if isinstance(value, torch.device | torch.layout | torch.memory_format):
        return None
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise CannotTrace(f"argument {value!r} of type {type(value).__name__} has no place in a program")


def _append(node: fx.Node, step: tuple[str, tuple[Arg, ...]], state: _Importer) -> None:
    op, args = step
    if op == "same":
        _alias(node, args[0], state)
        return
    outputs = _declare(node, state)
    state.nodes.append(Node(outputs, op, args, scope=_scope(node, state), source=_source(node)))


def _append_opaque(node: fx.Node, schema: Any, arguments: dict[str, Any], state: _Importer) -> None:
    name = f"{schema.name.replace('::', '.')}.{schema.overload_name or 'default'}"
    required = [parameter for parameter in schema.arguments if not parameter.kwarg_only]
    named = [parameter for parameter in schema.arguments if parameter.kwarg_only]
    kwargs = tuple(
        (p.name, arguments[p.name]) for p in named if arguments[p.name] is not None and p.name != "pin_memory"
    )
    outputs = _declare(node, state)
    args = tuple(arguments[parameter.name] for parameter in required)
    state.nodes.append(Node(outputs, name, args, kwargs, scope=_scope(node, state), source=_source(node)))


def _alias(node: fx.Node, arg: Arg, state: _Importer) -> None:
    if isinstance(arg, Ref | Weight):
        state.known[node.name] = arg
    else:
        raise CannotTrace(f"{node.target} of {arg!r} ({_source(node)}) is not understood")


def _declare(node: fx.Node, state: _Importer) -> tuple[str, ...]:
    value = node.meta.get("val")
    if isinstance(value, tuple | list):
        names = tuple(f"{node.name}_{i}" for i in range(len(value)))
        for i, (name, part) in enumerate(zip(names, value, strict=True)):
            state.known[f"{node.name}[{i}]"] = Ref(name)
            state.values[name] = _type_of(part, state)
        return names
    state.known[node.name] = Ref(node.name)
    state.values[node.name] = _type_of(value, state)
    return (node.name,)


def _type_of(value: Any, state: _Importer) -> ValueType:
    if isinstance(value, torch.Tensor):
        return ValueType(str(value.dtype).removeprefix("torch."), tuple(_axis(size, state) for size in value.shape))
    kind = "float" if isinstance(value, float | torch.SymFloat) else "bool" if isinstance(value, bool) else "int"
    return ValueType(kind)


def _axis(size: Any, state: _Importer) -> Axis:
    if str(size).isdigit():
        return int(size)
    return re.sub(r"[a-z]+\d+", lambda match: state.symbols.get(match[0], match[0]), str(size))


def _name_symbols(value: torch.Tensor, first: bool, state: _Importer) -> None:
    favourite = {0: "batch", 1: "seq"} if first else {}
    for position, size in enumerate(value.shape):
        text = str(size)
        if not isinstance(size, int) and text not in state.symbols and text.isidentifier():
            name = favourite.get(position, f"n{len(state.symbols) + 1}")
            state.symbols[text] = name if name not in state.symbols.values() else f"n{len(state.symbols) + 1}"


def _scope(node: fx.Node, state: _Importer) -> str:
    parent = ""
    for key, (path, kind) in (node.meta.get("nn_module_stack") or {}).items():
        if _SCOPE_NOISE in key:
            continue
        call = key.rpartition("@")[2] if "@" in key else ""
        scope = f"{path}@{call}" if call and path else path
        if scope:
            state.modules.setdefault(scope, CalledModule(_class_name(kind), parent))
        parent = scope
    return parent


def _class_name(kind: Any) -> str:
    return (kind if isinstance(kind, str) else kind.__name__).rpartition(".")[2]


def _source(node: fx.Node) -> str:
    places = re.findall(r'File "([^"]+)", line (\d+)', node.meta.get("stack_trace") or "")
    own = [place for place in places if "/torch/" not in place[0]] or places
    return f"{PurePath(own[-1][0]).name}:{own[-1][1]}" if own else ""


def _import_outputs(exported: ExportedProgram, state: _Importer) -> tuple[str, ...]:
    outputs: list[str] = []
    for spec in exported.graph_signature.output_specs:
        if spec.kind is not OutputKind.USER_OUTPUT:
            raise CannotTrace(
                f"the network changes {spec.target!r} while it runs; call .eval(), or make the state an input"
            )
        arg = state.known.get(getattr(spec.arg, "name", ""))
        kind = state.values[arg.name].dtype if isinstance(arg, Ref) else ""
        if isinstance(arg, Ref) and kind not in ("int", "float"):
            outputs.append(_distinct(arg.name, outputs, state))
        elif isinstance(arg, Weight):
            raise CannotTrace(
                f"the network returns its weight {arg.name!r} as it is; return values that depend on inputs"
            )
    if not outputs:
        raise CannotTrace("the network returns no tensor; return the tensors to be explained")
    return tuple(outputs)


def _distinct(name: str, taken: Sequence[str], state: _Importer) -> str:
    """A value that is returned twice, or is an input, gets a node of its own."""
    if name not in taken and any(name in node.outputs for node in state.nodes):
        return name
    copy = f"{name}_out{len(taken)}"
    state.values[copy] = state.values[name]
    axes = state.values[name].axes
    state.nodes.append(Node((copy,), "reshape", (Ref(name), tuple(a if isinstance(a, int) else -1 for a in axes))))
    return copy


def _fixed_axes(inputs: Sequence[str], values: Mapping[str, ValueType]) -> tuple[str, ...]:
    fixed = [f"{name} {values[name]}" for name in inputs if values[name].axes and isinstance(values[name].axes[0], int)]
    return tuple(f"the network takes only this number of samples at once: {text}" for text in fixed)
