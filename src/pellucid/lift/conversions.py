"""From torch's operations to primitives: one table row an operation.

A row names the primitive and, in the order of its parameters, the schema arguments that fill them. Operations with more
to it have a small function. What is in neither table stays as it is ("aten.…") and still runs, in torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from pellucid.ir.graph import Arg

Arguments: TypeAlias = Mapping[str, Any]
"""Schema name to value, defaults filled in; values are already Refs, Weights or plain data."""

Step: TypeAlias = tuple[str, tuple[Arg, ...]]
"""A primitive and its arguments. "same" stands for the first argument itself."""

END = 2**62


def _row(op: str, names: str) -> Callable[[Arguments], Step]:
    wanted = names.split()
    return lambda a: (op, tuple(a[name] for name in wanted))


def _scaled_sum(op: str) -> Callable[[Arguments], Step | None]:
    return lambda a: (op, (a["self"], a["other"])) if a.get("alpha", 1) == 1 else None


def _slice(a: Arguments) -> Step:
    start, end = a["start"], a["end"]
    end = None if isinstance(end, int) and end >= END else end
    start = None if start == 0 else start
    if start is None and end is None and a["step"] == 1:
        return "same", (a["self"],)
    return "slice_axis", (a["self"], a["dim"], start, end, a["step"])


def _axes(op: str) -> Callable[[Arguments], Step]:
    def convert(a: Arguments) -> Step:
        axes = a.get("dim")
        if axes is not None and not isinstance(axes, tuple):
            axes = (axes,)
        return op, (a["self"], axes or None, a.get("keepdim", False))

    return convert


def _variance(a: Arguments) -> Step | None:
    axes = a.get("dim")
    correction = a.get("correction", 1) if a.get("unbiased", True) else 0
    if axes is None:
        return None
    return "variance", (a["self"], axes, 1 if correction is None else correction, a.get("keepdim", False))


def _division(a: Arguments) -> Step | None:
    mode = a.get("rounding_mode")
    return {None: ("div", (a["self"], a["other"])), "floor": ("floordiv", (a["self"], a["other"]))}.get(mode)


def _dropout(a: Arguments) -> Step | None:
    return ("same", (a["input"],)) if not a["train"] or a["p"] == 0.0 else None


def _attention(a: Arguments) -> Step | None:
    if a["dropout_p"] != 0.0:
        return None
    return "attention", (a["query"], a["key"], a["value"], a["attn_mask"], a["is_causal"], a["scale"])


def _rms_norm(a: Arguments) -> Step | None:
    """Over the last axis; the default of eps depends on the element type and stays torch's."""
    if a["weight"] is None or a["eps"] is None or len(a["normalized_shape"]) != 1:
        return None
    return "rms_norm", (a["input"], a["weight"], a["eps"])


def _batch_norm(a: Arguments) -> Step | None:
    if a["training"] or a["running_mean"] is None:
        return None
    return "batch_norm", (a["input"], a["weight"], a["bias"], a["running_mean"], a["running_var"], a["eps"])


def _padding(a: Arguments) -> tuple[int, ...] | None:
    """Zeros on each side; "same" as numbers where it is the same on both sides."""
    if not isinstance(a["padding"], str):
        return tuple(a["padding"])
    spans = [step * (width - 1) for step, width in zip(_pair(a["dilation"]), a["kernel"], strict=False)]
    if a["padding"] == "valid":
        return (0,) * len(spans)
    return None if any(span % 2 for span in spans) else tuple(span // 2 for span in spans)


def _conv1d(a: Arguments) -> Step | None:
    padding = _padding(a)
    if padding is None:
        return None
    return "conv1d", (a["input"], a["weight"], a["bias"], a["stride"][0], padding[0], a["dilation"][0], a["groups"])


def _pair(value: Any) -> tuple[Arg, ...]:
    return tuple(value) * 2 if len(value) == 1 else tuple(value)


def _conv2d(a: Arguments) -> Step | None:
    padding = _padding(a)
    if padding is None:
        return None
    pairs = (_pair(a["stride"]), _pair(padding), _pair(a["dilation"]))
    return "conv2d", (a["input"], a["weight"], a["bias"], *pairs, a["groups"])


def _max_pool2d(a: Arguments) -> Step | None:
    if a["ceil_mode"] or _pair(a["dilation"]) != (1, 1):
        return None
    kernel = _pair(a["kernel_size"])
    return "max_pool2d", (a["self"], kernel, _pair(a["stride"]) if a["stride"] else kernel, _pair(a["padding"]))


def _avg_pool2d(a: Arguments) -> Step | None:
    if a["ceil_mode"] or a["divisor_override"] or (not a["count_include_pad"] and any(a["padding"])):
        return None
    kernel = _pair(a["kernel_size"])
    return "avg_pool2d", (a["self"], kernel, _pair(a["stride"]) if a["stride"] else kernel, _pair(a["padding"]))


def _recurrent(cell: str) -> Callable[[Arguments], Step | None]:
    def convert(a: Arguments) -> Step | None:
        each = (4 if a.get("has_biases") else 2) * (1 + bool(a.get("bidirectional")))
        if "input" not in a or len(a["params"]) != each * a["num_layers"]:  # packed sequences, projected states
            return None
        states = a["hx"] if isinstance(a["hx"], tuple) else (a["hx"],)
        return "recurrent", (
            cell, a["input"], states, a["params"], a["num_layers"], a["bidirectional"], a["batch_first"],
        )  # fmt: skip

    return convert


def _cell(cell: str) -> Callable[[Arguments], Step]:
    def convert(a: Arguments) -> Step:
        states = a["hx"] if isinstance(a["hx"], tuple) else (a["hx"],)
        weights = tuple(a[name] for name in ("w_ih", "w_hh", "b_ih", "b_hh") if a[name] is not None)
        return "recurrent_cell", (cell, a["input"], states, weights)

    return convert


def _larger_or_smaller(op: str) -> Callable[[Arguments], Step | None]:
    return lambda a: (op, (a["self"], a["other"])) if a.get("other") is not None else None


def _split(a: Arguments) -> Step | None:
    sizes = a.get("part_sizes", ())
    return ("split", (a["self"], sizes, a["dim"])) if sizes and all(isinstance(size, int) for size in sizes) else None


def _arange(a: Arguments) -> Step | None:
    bounds = (a.get("start", 0), a["end"], a.get("step", 1))
    if any(isinstance(bound, float) for bound in bounds):
        return None
    return "arange", (*bounds, a.get("dtype") or "int64")


def _pad(a: Arguments) -> Step | None:
    if a.get("mode", "constant") != "constant":
        return None
    return "pad", (a["self"], a["pad"], a["value"] if a.get("value") is not None else 0.0)


def _filled(op: str, shape: str, value: float | None) -> Callable[[Arguments], Step | None]:
    def convert(a: Arguments) -> Step | None:
        dtype = a.get("dtype")
        if dtype is None:
            return None
        if op == "zeros":
            return op, (a[shape], dtype)
        return op, (a[shape], a["fill_value"] if value is None else value, dtype)

    return convert


def _embedding(a: Arguments) -> Step:
    return "embedding", (a["weight"], a["indices"])


def _index(a: Arguments) -> Step:
    return "index", (a["self"], a["indices"])


def _softmax(op: str) -> Callable[[Arguments], Step]:
    return lambda a: (op, (a["self"], a["dim"]))


def _diff(a: Arguments) -> Step | None:
    return ("diff", (a["self"], a["dim"], a["prepend"])) if a["n"] == 1 and a["append"] is None else None


def _repeated(a: Arguments) -> Step | None:
    heads = a.get("rank") == 4 and a.get("dim") == 1 and isinstance(a["repeats"], int)
    return ("repeat_heads", (a["self"], a["repeats"])) if heads else None


def _clamp(a: Arguments) -> Step:
    return "clip", (a["self"], a.get("min"), a.get("max"))


_ELEMENTWISE = {
    "exp": "exp", "log": "log", "sqrt": "sqrt", "rsqrt": "rsqrt", "reciprocal": "reciprocal", "abs": "absolute",
    "sign": "sign", "floor": "floor", "ceil": "ceil", "round": "round_half_even", "sin": "sin", "cos": "cos",
    "erf": "erf", "tanh": "tanh", "sigmoid": "sigmoid", "relu": "relu", "silu": "silu",
    "hardswish": "hardswish", "hardsigmoid": "hardsigmoid",
    "neg": "neg", "bitwise_not": "invert", "logical_not": "logical_not",
}  # fmt: skip

_BINARY = {
    "mul": "mul", "pow": "pow", "eq": "eq", "ne": "ne", "lt": "lt", "le": "le", "gt": "gt", "ge": "ge",
    "bitwise_and": "and", "bitwise_or": "or", "bitwise_xor": "xor", "logical_and": "and", "logical_or": "or",
    "__and__": "and", "__or__": "or", "__xor__": "xor", "remainder": "mod", "floor_divide": "floordiv",
}  # fmt: skip

SPLITTING = ("split_with_sizes", "split", "chunk", "unsafe_split")
"""Operations that cut a value into parts; the sizes of these are told by what they return."""

_SAME = ("contiguous", "alias", "detach", "clone", "lift_fresh_copy", "_to_copy_same")

PACKETS: Mapping[str, Callable[[Arguments], Step | None]] = {
    **{name: _row(op, "self") for name, op in _ELEMENTWISE.items()},
    **{name: _row(op, "self other" if name != "pow" else "self exponent") for name, op in _BINARY.items()},
    **{name: _row("same", "self") for name in _SAME},
    "add": _scaled_sum("add"), "sub": _scaled_sum("sub"),
    "div": _division, "dropout": _dropout, "feature_dropout": _dropout, "slice": _slice,
    "leaky_relu": _row("leaky_relu", "self negative_slope"), "elu": _row("elu", "self alpha"),
    "gelu": _row("gelu", "self approximate"), "softplus": _row("softplus", "self beta threshold"),
    "hardtanh": _row("clip", "self min_val max_val"), 
    "relu6": lambda a: ("clip", (a["self"], 0.0, 6.0)), "clamp": _clamp, "clamp_min": _clamp, "clamp_max": _clamp,
    "minimum": _row("minimum", "self other"), "maximum": _row("maximum", "self other"),
    "where": lambda a: ("where", (a["condition"], a["self"], a["other"])) if "self" in a else None,
    "masked_fill": lambda a: ("masked_fill", (a["self"], a["mask"], a["value"])),
    "view": _row("reshape", "self size"), "reshape": _row("reshape", "self shape"),
    "_unsafe_view": _row("reshape", "self size"), "flatten": _row("flatten", "self start_dim end_dim"),
    "transpose": _row("transpose", "self dim0 dim1"), "permute": _row("permute", "self dims"),
    "numpy_T": lambda a: ("permute", (a["self"], tuple(reversed(range(a["rank"]))))) if "rank" in a else None,
    "t": lambda a: ("transpose", (a["self"], 0, 1)), "unsqueeze": _row("unsqueeze", "self dim"),
    "squeeze": lambda a: ("squeeze", (a["self"], a["dim"])) if isinstance(a.get("dim"), int) else None,
    "expand": _row("expand", "self size"), "repeat": _row("repeat", "self repeats"),
    "cat": _row("concat", "tensors dim"), "stack": _row("stack", "tensors dim"),
    "select": _row("select", "self dim index"),
    **dict.fromkeys(SPLITTING, _split),
    "unbind": _row("unbind", "self dim"),
    "index_select": _row("take", "self index dim"), "gather": _row("gather", "self dim index"), "index": _index,
    "pad": _pad, "constant_pad_nd": _pad, "flip": _row("flip", "self dims"),
    "tril": _row("tril", "self diagonal"), "triu": _row("triu", "self diagonal"),
    "sum": _axes("total"), "mean": _axes("mean"), "amax": _axes("largest"), "amin": _axes("smallest"),
    "var": _variance,
    "argmax": lambda a: ("argmax", (a["self"], a["dim"], a["keepdim"])) if a["dim"] is not None else None,
    "any": lambda a: ("any_true", (a["self"], a["dim"], a["keepdim"])) if isinstance(a.get("dim"), int) else None,
    "all": lambda a: ("all_true", (a["self"], a["dim"], a["keepdim"])) if isinstance(a.get("dim"), int) else None,
    "repeat_interleave": _repeated, "cumsum": _row("cumsum", "self dim"), "diff": _diff,
    "softmax": _softmax("softmax"), "_softmax": _softmax("softmax"), "log_softmax": _softmax("log_softmax"),
    "matmul": _row("matmul", "self other"), "bmm": lambda a: ("matmul", (a["self"], a["mat2"])),
    "mm": lambda a: ("matmul", (a["self"], a["mat2"])), "einsum": _row("einsum", "equation tensors"),
    "linear": _row("linear", "input weight bias"), "embedding": _embedding,
    "addmm": lambda a: ("affine", (a["mat1"], a["mat2"], a["self"])) if a["alpha"] == a["beta"] == 1 else None,
    "layer_norm": _row("layer_norm", "input normalized_shape weight bias eps"),
    "rms_norm": _rms_norm,
    "batch_norm": _batch_norm,
    "_native_batch_norm_legit_no_training": lambda a: _batch_norm({**a, "training": False}),
    "group_norm": _row("group_norm", "input num_groups weight bias eps"),
    "scaled_dot_product_attention": _attention, "conv1d": _conv1d, "conv2d": _conv2d,
    "max_pool2d": _max_pool2d, "avg_pool2d": _avg_pool2d,
    "adaptive_avg_pool2d": lambda a: ("adaptive_avg_pool2d", (a["self"], a["output_size"])),
    "rnn_tanh": _recurrent("rnn_tanh"), "rnn_relu": _recurrent("rnn_relu"),
    "gru": _recurrent("gru"), "lstm": _recurrent("lstm"),
    "rnn_tanh_cell": _cell("rnn_tanh_cell"), "rnn_relu_cell": _cell("rnn_relu_cell"),
    "gru_cell": _cell("gru_cell"), "lstm_cell": _cell("lstm_cell"),
    "min": _larger_or_smaller("minimum"), "max": _larger_or_smaller("maximum"),
    "unflatten": _row("unflatten", "self dim sizes"),
    "arange": _arange, "zeros": _filled("zeros", "size", 0.0), "ones": _filled("full", "size", 1.0),
    "full": _filled("full", "size", None), "new_zeros": _filled("zeros", "size", 0.0),
    "new_ones": _filled("full", "size", 1.0), "new_full": _filled("full", "size", None),
    "mT": lambda a: ("transpose", (a["self"], -2, -1)), "sym_size": _row("size", "self dim"),
}  # fmt: skip
"""Operation (without its overload) to conversion; a conversion that returns None leaves the operation opaque."""

ACCUMULATING = ("sum", "mean", "cumsum", "softmax", "_softmax", "log_softmax")
"""Operations that may be asked to compute in another element type; the primitives compute in that of their input."""

LOGICAL = ("logical_and", "logical_or")
"""Operations that are those of bits only for truth values."""

TYPE_CODES: Mapping[str, int] = {
    "uint8": 0, "int8": 1, "int16": 2, "int32": 3, "int64": 4, "float16": 5, "float32": 6, "float64": 7,
    "complex32": 8, "complex64": 9, "complex128": 10, "bool": 11, "bfloat16": 15,
}  # fmt: skip
"""The numbers by which torch's own operations know element types."""

NUMBERS: Mapping[str, str] = {
    "add": "add", "sub": "sub", "mul": "mul", "floordiv": "floordiv", "truediv": "div", "mod": "mod", "neg": "neg",
    "pow": "pow", "eq": "eq", "ne": "ne", "lt": "lt", "le": "le", "gt": "gt", "ge": "ge",
    "sym_max": "maximum", "sym_min": "minimum",
}  # fmt: skip
"""Python operators on sizes, as torch.export leaves them in the graph."""

DROPPED = (
    "_assert_tensor_metadata",
    "_assert_scalar",
    "_assert_async",
    "sym_constrain_range_for_size",
    "sym_constrain_range",
)
"""Checks that compute nothing."""
