"""What a `.pt2` program may say: every string that torch would resolve, evaluate or print into code is checked first.

torch.export.load resolves operators by getattr from `torch`, hands symbolic expressions to sympy (which evaluates
them), imports the classes named in tree specifications, and prints node names into the source of `forward`. So names
have to be identifiers, operators torch's own tensor operations, expressions a small grammar (parsed with `ast`, never
evaluated), trees plain tuples, lists and dicts; guards, custom objects and most metadata are left out.
"""

from __future__ import annotations

import ast
import json
import keyword
import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch

from pellucid.errors import BadInput
from pellucid.lift.containers import quote

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_PATH = re.compile(r"(?!__)\w+(\.(?!__)\w+)*", re.ASCII)
_WORD = re.compile(r"[\w.@:+<=-]*", re.ASCII)
_SYMBOL = re.compile(r"[a-z]{1,4}\d{1,6}", re.ASCII)
_NUMBER = re.compile(r"-?\d{0,20}\.?\d{0,40}(e[+-]?\d{1,3})?", re.ASCII)

_IDENTIFIER_KEYS = {"name", "as_name", "forward_arg_names"}
_PATH_KEYS = {"parameter_name", "buffer_name", "tensor_constant_name"}
_OBJECT_KEYS = {"as_custom_obj", "custom_obj", "token", "as_token"}

_ATEN = re.compile(r"torch\.ops\.(aten|prims)\.(\w+)\.(\w+)", re.ASCII)
_SIMPLE_OPERATOR = re.compile(
    r"_operator\.(add|sub|mul|floordiv|truediv|mod|neg|pos|pow|eq|ne|lt|le|gt|ge|and_|or_|not_|lshift|rshift)"
    r"|math\.(ceil|floor|trunc|sqrt|log2)"
    r"|torch\.sym_(int|float|max|min|not|ite|sqrt|sum)"
    r"|torch\.ops\.higher_order\.(cond|while_loop|scan|map_impl|associative_scan|wrap_with_set_grad_enabled"
    r"|wrap_with_autocast)"
)
_FILE_OPERATORS = {"from_file", "save", "warn", "_print"}
_FREE_TYPES = re.compile(r"\b(Any|AnyType|Storage|Dict|t|tVal)\b")

_FUNCTION = re.compile(
    r"Symbol|Integer|Rational|Float|Mul|Add|Pow|Max|Min|Mod|PythonMod|FloorDiv|CleanDiv|CeilDiv|ModularIndexing|Where"
    r"|CeilToInt|FloorToInt|TruncToInt|RoundToInt|TruncToFloat|ToFloat|FloatTrueDiv|IntTrueDiv|FloatPow|PowByNatural"
    r"|LShift|RShift|Identity|IsNonOverlappingAndDenseIndicator|Equality|Unequality|GreaterThan|LessThan"
    r"|StrictGreaterThan|StrictLessThan|Eq|Ne|Ge|Le|Gt|Lt|And|Or|Not|Piecewise|ExprCondPair|floor|ceiling|Abs"
)
_POWERS = {"Pow", "PowByNatural", "FloatPow", "LShift"}
_CONSTANTS = {"true", "false"}
_MAX_EXPRESSION, _MAX_POWER = 4000, 16


@dataclass(frozen=True)
class _Place:
    """Where in the program a value stands: the file for messages, the key above, and whether a node is around it."""

    label: str
    key: str = ""
    in_node: bool = False

    def at(self, key: str) -> _Place:
        return _Place(self.label, key, self.in_node or key == "nodes")

    def refuse(self, what: str, remedy: str = "the file is damaged or made to do harm; export it again") -> BadInput:
        return BadInput(f"{self.label}: {what}; {remedy}")


def clean_program(program: Mapping[str, object], label: str) -> dict[str, object]:
    """The program of an archive (`models/model.json`) reduced to what is needed and cannot execute anything.

    Raises:
        BadInput: names what is not allowed and the remedy.
    """
    place = _Place(label)
    module = program.get("graph_module")
    if not isinstance(module, Mapping) or not isinstance(module.get("graph"), Mapping):
        raise place.refuse("holds no graph")
    try:
        return {
            "graph_module": {
                "graph": _clean(module["graph"], place),
                "signature": _clean(module.get("signature"), place),
                "module_call_graph": _clean_calls(module.get("module_call_graph"), place),
            },
            "range_constraints": _clean_ranges(program.get("range_constraints"), place),
            **{key: _clean(program.get(key), place) for key in ("opset_version", "schema_version", "verifiers")},
            "torch_version": "checked",
            "guards_code": [],
        }
    except RecursionError as error:
        raise place.refuse("its graph is nested too deeply") from error


def clean_payloads(config: Mapping[str, object], label: str) -> dict[str, dict[str, object]]:
    """Weights or constants by name, as `data/*/model_*_config.json` lists them; all have to be plain tensors.

    Raises:
        BadInput: an entry would have to be unpickled, or is no description of a tensor.
    """
    place = _Place(label)
    entries = config.get("config")
    if not isinstance(entries, Mapping):
        raise place.refuse("lists no tensors")
    return {str(name): _clean_payload(str(name), entry, place) for name, entry in entries.items()}


def _clean_payload(name: str, entry: object, place: _Place) -> dict[str, object]:
    if not _PATH.fullmatch(name):
        raise place.refuse(f"a tensor has the name {quote(name)}")
    file = entry.get("path_name") if isinstance(entry, Mapping) else None
    if not isinstance(entry, Mapping) or not isinstance(file, str):
        raise place.refuse(f"tensor {quote(name)} has no file")
    if entry.get("use_pickle") is not False or not re.fullmatch(r"(weight|tensor)_\d{1,9}", file, re.ASCII):
        raise place.refuse(
            f"{quote(name)} is a pickled object ({quote(file)}), which is not read for safety",
            "export a model whose weights and constants are plain tensors",
        )
    if not isinstance(entry.get("tensor_meta"), Mapping):
        raise place.refuse(f"tensor {quote(name)} lacks its shape")
    return {
        "path_name": file,
        "is_param": entry.get("is_param") is True,
        "use_pickle": False,
        "tensor_meta": _clean(entry["tensor_meta"], place),
    }


def _clean(value: object, place: _Place) -> object:
    """A checked copy of a JSON value; the key above it tells what its strings mean."""
    if isinstance(value, Mapping):
        return _clean_mapping(value, place)
    if isinstance(value, list):
        return [_clean(item, place) for item in value]
    if isinstance(value, str):
        return _clean_text(value, place)
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise place.refuse(f"{quote(place.key)} is the number {quote(value)}")
    return value


def _clean_mapping(value: Mapping[str, object], place: _Place) -> dict[str, object]:
    if place.key == "metadata":
        return _clean_metadata(value)
    if set(value) == {"type", "index"} and value["type"] != "cpu":
        raise place.refuse(
            f"uses the device {quote(value['type'])}", "move model and inputs to the CPU before torch.export.export"
        )
    for key in value:
        if key in _OBJECT_KEYS or not _WORD.fullmatch(key):
            raise place.refuse(f"holds an object {quote(key)} that is no tensor", "export a model of plain tensors")
    return {key: _clean(item, place.at(key)) for key, item in value.items()}


def _clean_text(value: str, place: _Place) -> str:
    if place.key in ("target", "as_operator"):
        _check_operator(value, place)
    elif place.key == "expr_str":
        _check_expression(value, place)
    elif place.key in ("as_string", "as_strings") and place.in_node:
        return value  # an argument of an operator, printed by repr
    elif place.key in _IDENTIFIER_KEYS:
        if value and (not _IDENTIFIER.fullmatch(value) or keyword.iskeyword(value)):
            raise place.refuse(f"a value has the name {quote(value)}")
    elif not (_PATH if place.key in _PATH_KEYS else _WORD).fullmatch(value):
        raise place.refuse(f"{quote(place.key)} is {quote(value)}")
    return value


def _clean_metadata(value: Mapping[str, object]) -> dict[str, object]:
    """Of a node's metadata, the modules and the source lines it came from; nothing unprintable."""
    kept = {key: value[key] for key in ("nn_module_stack", "stack_trace") if isinstance(value.get(key), str)}
    return {key: re.sub(r"[^\x20-\x7e\n]", "?", str(text)) for key, text in kept.items()}


def _clean_calls(calls: object, place: _Place) -> list[object]:
    """The call graph with the signature of the whole program alone."""
    if not isinstance(calls, list) or not all(isinstance(call, Mapping) for call in calls):
        raise place.refuse("holds no call signature")
    cleaned: list[object] = []
    for call in calls:
        signature = call.get("signature") if call.get("fqn") == "" else None
        cleaned.append(
            {"fqn": _clean_text(str(call.get("fqn")), place.at("fqn")), "signature": _clean_signature(signature, place)}
        )
    return cleaned


def _clean_signature(signature: object, place: _Place) -> dict[str, object] | None:
    if not isinstance(signature, Mapping):
        return None
    return {
        "inputs": [],
        "outputs": [],
        "in_spec": _clean_spec(signature.get("in_spec"), place, outputs=False),
        "out_spec": _clean_spec(signature.get("out_spec"), place, outputs=True),
        "forward_arg_names": _clean(signature.get("forward_arg_names"), place.at("forward_arg_names")),
    }


def _clean_ranges(ranges: object, place: _Place) -> dict[str, object]:
    if not isinstance(ranges, Mapping) or not all(_SYMBOL.fullmatch(name) for name in ranges):
        raise place.refuse("its ranges of sizes are not valid")
    return {name: _clean(item, place) for name, item in ranges.items()}


def _clean_spec(text: object, place: _Place, outputs: bool) -> str:
    """A tree specification with plain containers; a named output class becomes the dict of its fields."""
    try:
        protocol, tree = json.loads(text if isinstance(text, str) else "")
        return json.dumps([int(protocol), _clean_tree(tree, place, outputs)])
    except (ValueError, TypeError, KeyError) as error:
        raise place.refuse("the structure of its inputs or outputs is not valid") from error


def _clean_tree(tree: Mapping[str, object], place: _Place, outputs: bool) -> dict[str, object]:
    kind, children = tree["type"], tree["children_spec"]
    if not isinstance(children, list):
        raise TypeError("children")
    if kind is None:
        return {"type": None, "context": None, "children_spec": []}
    cleaned = [_clean_tree(child, place, outputs) for child in children]
    if kind in ("builtins.tuple", "builtins.list"):
        return {"type": kind, "context": "null", "children_spec": cleaned}
    keys = json.loads(str(tree["context"]))
    named = isinstance(keys, list) and all(isinstance(key, str) and _IDENTIFIER.fullmatch(key) for key in keys)
    if not named or len(keys) != len(cleaned) or not (outputs or kind == "builtins.dict"):
        raise place.refuse(
            f"its inputs or outputs are grouped in a {quote(kind)}", "take and return tensors, tuples, lists or dicts"
        )
    return {"type": "builtins.dict", "context": json.dumps(keys), "children_spec": cleaned}


def _check_operator(name: str, place: _Place) -> None:
    if _SIMPLE_OPERATOR.fullmatch(name):
        return
    if match := _ATEN.fullmatch(name):
        space, operator, overload = match.groups()
        found = getattr(getattr(getattr(torch.ops, space), operator, None), overload, None)
        if isinstance(found, torch._ops.OpOverload) and operator not in _FILE_OPERATORS:
            types = " ".join(str(argument.type) for argument in found._schema.arguments)
            if not _FREE_TYPES.search(types):
                return
    raise place.refuse(
        f"calls {quote(name)}, which is none of torch's own tensor operations",
        "export it again without custom operators (exported.run_decompositions() removes many)",
    )


def _check_expression(text: str, place: _Place) -> None:
    """Checks a symbolic size as sympy prints it, such as "Mul(Integer(8), Symbol('s70', integer=True))"."""
    try:
        if len(text) > _MAX_EXPRESSION:
            raise ValueError("too long")
        _check_term(ast.parse(text, mode="eval").body, in_power=False)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise place.refuse(f"a size is given as {quote(text)}") from error


def _check_term(node: ast.expr, in_power: bool) -> None:
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        if abs(node.value) >= 2**63:
            raise ValueError("too large")
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        _check_term(node.operand, in_power)
    elif isinstance(node, ast.Name) and node.id in _CONSTANTS:
        return
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and _FUNCTION.fullmatch(node.func.id):
        _check_call(node.func.id, node, in_power)
    else:
        raise ValueError("not an expression of sizes")


def _check_call(function: str, node: ast.Call, in_power: bool) -> None:
    pattern = {"Symbol": _SYMBOL, "Float": _NUMBER}.get(function)
    arguments = node.args
    if pattern is not None:
        name = arguments[0].value if arguments and isinstance(arguments[0], ast.Constant) else None
        if len(arguments) != 1 or not isinstance(name, str) or not pattern.fullmatch(name):
            raise ValueError("not a symbol or number")
        arguments = []
    for option in node.keywords:
        value = option.value.value if isinstance(option.value, ast.Constant) else None
        if option.arg is None or not isinstance(value, int) or not 0 <= value <= 200:
            raise ValueError("not an assumption")
    if function in _POWERS:
        if in_power or len(arguments) != 2 or not _is_small(arguments[1]):
            raise ValueError("not a small power")
        in_power = True
    for argument in arguments:
        _check_term(argument, in_power)


def _is_small(node: ast.expr) -> bool:
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Integer" and node.args:
        node = node.args[0]
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    return isinstance(node, ast.Constant) and type(node.value) is int and abs(node.value) <= _MAX_POWER
