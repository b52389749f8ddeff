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
from pellucid.ir.graph import Arg, Axis, Block, CalledModule, Graph, Node, Ref, ValueType, Weight, refs, weights_read
from pellucid.ir.primitives import OPERATORS
from pellucid.lift.conversions import ACCUMULATING, DROPPED, LOGICAL, NUMBERS, PACKETS, SPLITTING, TYPE_CODES
from pellucid.lift.functional import functional_twin

_TORCH = str(PurePath(torch.__file__).parent)
_WRAPPERS = ("wrap_with_set_grad_enabled", "wrap_with_autocast")
_SCOPE_NOISE = "_empty_nn_module_stack_from_metadata_hook"


@dataclass
class _Importer:
    """What has been imported so far: `known` maps torch's node names to our arguments."""

    known: dict[str, Arg] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    values: dict[str, ValueType] = field(default_factory=dict)
    modules: dict[str, CalledModule] = field(default_factory=dict)
    symbols: dict[str, str] = field(default_factory=dict)
    prefix: str = ""
    weights: dict[str, torch.Tensor] = field(default_factory=dict)


def import_exported(exported: ExportedProgram, module: nn.Module) -> Graph:
    """The graph of an exported program; `module` gives the name of its class to the outermost scope.

    Raises:
        CannotTrace: the network changes its own buffers, or returns something that is no tensor.
    """
    state = _Importer(modules={"": CalledModule(type(module).__name__, "")})
    inputs = _import_placeholders(exported, state)
    for node in exported.graph.nodes:
        if node.op == "call_function":
            _import_call(node, state)
    outputs = _import_outputs(exported, state)
    block = drop_unused(Block(inputs, tuple(state.nodes), outputs))
    return Graph(block, state.values, {name: state.weights[name] for name in weights_read(block)}, state.modules)


def drop_unused(block: Block) -> Block:
    """The block without nodes whose values nothing reads."""
    needed, kept = set(block.outputs), []
    for node in reversed(block.nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(refs(node))
    return Block(block.inputs, tuple(reversed(kept)), block.outputs)


def _import_placeholders(exported: ExportedProgram, state: _Importer) -> tuple[str, ...]:
    placeholders = {node.name: node for node in exported.graph.nodes if node.op == "placeholder"}
    stores: tuple[Mapping[str, Any], ...] = (exported.state_dict, exported.constants)
    inputs: list[str] = []
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
            state.weights[target], state.known[name] = tensor.detach(), Weight(target)
        else:
            raise CannotTrace(
                f"the network holds {spec.kind.name.lower()} {spec.target!r}; only tensors can be decompiled"
            )
    return tuple(inputs)


def _import_call(node: fx.Node, state: _Importer) -> None:
    target = node.target
    schema, name = getattr(target, "_schema", None), getattr(target, "__name__", "")
    if schema is None and name == "getitem":
        whole, position = node.args
        state.known[node.name] = state.known[f"{whole.name}[{position}]"]  # type: ignore[union-attr]
        return
    if schema is None and name in _WRAPPERS:
        _import_wrapped(node, str(name), state)
        return
    if schema is None:
        _import_number(node, *_number_step(node, state), state)
        return
    packet = functional_twin(schema) or schema.name.split("::")[-1]
    if packet in DROPPED:
        return
    if schema.name.split("::")[0] != "aten":
        raise CannotTrace(f"operation {schema.name!r} is no part of torch itself; replace it by torch operations")
    arguments = _arguments(node, schema, state)
    known = _type(arguments.get("self"), state) if packet == "sym_size" else None
    if known is not None and isinstance(known.axes[arguments["dim"]], int):
        state.known[node.name] = known.axes[arguments["dim"]]
        return
    _refuse_statistics(arguments)
    convert = PACKETS.get(packet)
    step: Any = _as_it_was(packet, arguments, node, state)
    if step is None and convert is not None and not _is_other_logic(packet, arguments, state):
        step = convert(_with_dtype(_in_asked_type(packet, arguments, node, state), node))
    if step is None:
        _append_opaque(node, packet, schema, arguments, state)
    else:
        _append(node, _simplified(step, node, state), state)


def _import_number(node: fx.Node, op: str, args: tuple[Arg, ...], state: _Importer) -> None:
    """Arithmetic on sizes; on sizes that are fixed, its result."""
    if all(isinstance(arg, int | float) for arg in args) and op in OPERATORS:
        state.known[node.name] = OPERATORS[op][2](*args)
    else:
        _append(node, (op, args), state)


def _import_wrapped(node: fx.Node, name: str, state: _Importer) -> None:
    """`with torch.no_grad():` and the like are exported as a graph of their own; its nodes take their place here."""
    body = next(arg for arg in node.args if isinstance(arg, fx.Node) and arg.op == "get_attr")
    if name == "wrap_with_autocast" and node.args[2]:
        raise CannotTrace(f"autocast is on inside the network ({_source(node)}); switch it off, or convert the weights")
    inner = getattr(node.graph.owning_module, str(body.target)).graph
    operands = iter([_arg(arg, state) for arg in node.args[node.args.index(body) + 1 :]])
    outer, state.known = state.known, {}
    taken = state.prefix
    state.prefix = f"{taken}{node.name}_"
    for part in inner.nodes:
        if part.op == "placeholder":
            state.known[part.name] = next(operands)
        elif part.op == "call_function":
            _import_call(part, state)
        elif part.op == "output":
            made = [state.known[result.name] for result in part.args[0]]
    state.known, state.prefix = outer, taken
    state.known.update({f"{node.name}[{i}]": value for i, value in enumerate(made)})


def _as_it_was(packet: str, arguments: Mapping[str, Any], node: fx.Node, state: _Importer) -> Any:
    """Copies that replace the whole of their target by a value of the same type, and changes of type."""
    whole = packet == "copy" or (packet == "slice_scatter" and arguments["step"] == 1)
    if whole and _type(arguments["src"], state) == _type_of(node.meta.get("val"), state):
        return "same", (arguments["src"],)
    if packet in ("to", "_to_copy", "type_as"):
        dtype = str(node.meta["val"].dtype).removeprefix("torch.")
        known = _type(arguments["self"], state)
        return (
            ("same", (arguments["self"],)) if known and known.dtype == dtype else ("cast", (arguments["self"], dtype))
        )
    return None


def _is_other_logic(packet: str, arguments: Mapping[str, Any], state: _Importer) -> bool:
    """Whether a logical operation is applied to numbers, which the primitives would take bit by bit."""
    kinds = [_type(arguments.get(name), state) for name in ("self", "other")]
    return packet in LOGICAL and any(kind is None or kind.dtype != "bool" for kind in kinds)


def _in_asked_type(packet: str, arguments: dict[str, Any], node: fx.Node, state: _Importer) -> dict[str, Any]:
    """Where a sum or softmax is to be computed in another type, its input is cast first."""
    asked, known = arguments.get("dtype"), _type(arguments.get("self"), state)
    if packet not in ACCUMULATING or asked is None or known is None or asked == known.dtype:
        return arguments
    name = f"{state.prefix}{node.name}_{asked}"
    state.values[name] = ValueType(asked, known.axes)
    args = (arguments["self"], asked)
    state.nodes.append(Node((name,), "cast", args, scope=_scope(node, state), source=_source(node)))
    return {**arguments, "self": Ref(name)}


def _refuse_statistics(arguments: Mapping[str, Any]) -> None:
    """A norm that takes the statistics of the batch and keeps a running mean of them is stateful."""
    mean = arguments.get("running_mean")
    if isinstance(mean, Weight) and (arguments.get("training") or arguments.get("use_input_stats")):
        raise CannotTrace(f"the network changes {mean.name!r} while it runs; call .eval(), or make the state an input")


def _type(arg: Arg, state: _Importer) -> ValueType | None:
    if isinstance(arg, Weight):
        tensor = state.weights[arg.name]
        return ValueType(str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape))
    return state.values.get(arg.name) if isinstance(arg, Ref) else None


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
    if name == "sym_float":
        return "mul", (_arg(node.args[0], state), 1.0)
    if name not in NUMBERS:
        what = f"{name!r} ({_source(node)})"
        if isinstance(node.meta.get("val"), torch.SymInt | torch.SymFloat | torch.SymBool | int | float | bool):
            raise CannotTrace(f"the size computation {what} is not supported; use whole-number arithmetic there")
        raise CannotTrace(f"the control flow {what} is not supported; use torch.where or plain Python there")
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
    if isinstance(parts, tuple | list) and schema.name.rpartition("::")[2] in SPLITTING:
        named["part_sizes"] = tuple(part.shape[named["dim"]] for part in parts)
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
    outputs = _declare(node, state)[: 1 if op == "batch_norm" else None]
    state.nodes.append(Node(outputs, op, args, scope=_scope(node, state), source=_source(node)))


def _append_opaque(node: fx.Node, packet: str, schema: Any, arguments: Mapping[str, Any], state: _Importer) -> None:
    name = f"aten.{packet}.{schema.overload_name or 'default'}"
    arguments = {**arguments, "dtype": TYPE_CODES.get(arguments.get("dtype", ""))}
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
        names = tuple(f"{state.prefix}{node.name}_{i}" for i in range(len(value)))
        for i, (name, part) in enumerate(zip(names, value, strict=True)):
            state.known[f"{node.name}[{i}]"] = Ref(name)
            state.values[name] = _type_of(part, state)
        return names
    name = f"{state.prefix}{node.name}"
    state.known[node.name] = Ref(name)
    state.values[name] = _type_of(value, state)
    return (name,)


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
    own = [place for place in places if not place[0].startswith((_TORCH, "<"))] or places
    return f"{PurePath(own[-1][0]).name}:{own[-1][1]}" if own else ""


def _import_outputs(exported: ExportedProgram, state: _Importer) -> tuple[str, ...]:
    outputs: list[str] = []
    for spec in exported.graph_signature.output_specs:
        if spec.kind is OutputKind.USER_INPUT_MUTATION:  # seen by the caller, not by the outputs
            continue
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
    """A value that is returned twice, or is an input, gets a node of its own: a cast to the type that it has."""
    if name not in taken and any(name in node.outputs for node in state.nodes):
        return name
    copy = f"{name}_out{len(taken)}"
    state.values[copy] = state.values[name]
    state.nodes.append(Node((copy,), "cast", (Ref(name), state.values[name].dtype)))
    return copy
