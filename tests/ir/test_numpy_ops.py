"""Every primitive gives the same in numpy as in torch, in values, shapes and element types."""

import inspect
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pellucid.ir.numpy_ops import NUMPY
from pellucid.ir.primitives import OPERATORS, PREFIXES, TORCH

Case = tuple[tuple[Any, ...], dict[str, Any]]


def real(*shape: int, scale: float = 1.0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))) * scale


def whole(*shape: int, low: int = -4, high: int = 5) -> Tensor:
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(sum(shape) + 1))


def case(*args: Any, **kwargs: Any) -> Case:
    return args, kwargs


def cells(cell: str, layers: int, directions: int, biases: bool) -> Case:
    gates = {"gru": 3, "lstm": 4}.get(cell, 1)
    weights: list[Tensor] = []
    for layer in range(layers):
        for _ in range(directions):
            wide = 3 if layer == 0 else 5 * directions
            weights += [real(gates * 5, wide), real(gates * 5, 5)]
            weights += [real(gates * 5), real(gates * 5, scale=0.5)] if biases else []
    states = (real(layers * directions, 2, 5), real(layers * directions, 2, 5, scale=0.3))
    first = biases
    x = real(2, 7, 3) if first else real(7, 2, 3)
    return case(cell, x, states if cell == "lstm" else states[:1], tuple(weights), layers, directions == 2, first)


PAIRS = [case(real(3, 4), real(3, 4, scale=2)), case(real(3, 4), 1.5), case(whole(3, 4), 2), case(real(3, 4), real(4))]
BITS = [case(whole(3, 4), whole(3, 4, low=0)), case(whole(3, 4) > 0, whole(3, 4) > 1)]
SHIFTS = [case(whole(3, 4, low=0), whole(3, 4, low=0))]
SMOOTH = [case(real(3, 5, scale=3)), case(whole(3, 5))]
ABOVE = [case(real(3, 5).abs() + 0.1), case(whole(3, 5, low=1))]
ROUGH = [case(real(3, 5, scale=3)), case(torch.tensor([-1.5, -0.5, 0.5, 1.5, 2.5, 0.0]))]
SHAPED = real(2, 3, 4, 5)
IMAGE = real(2, 6, 9, 8)
HEADS = [real(2, 4, 6, 8), real(2, 4, 7, 8), real(2, 4, 7, 8, scale=2)]
CHOICE = whole(3, 4, 5) > 2
SHUT = torch.tensor([[True, False, False], [False, False, False], [True, True, True]])
TRAITS = torch.cat([whole(8, 12, low=0, high=2), whole(1, 12, low=0, high=3), torch.eye(12).long()[:1]])
LOOKS = (whole(4, 25, low=0, high=25), whole(4, 25, low=0, high=3))
SLOTS = (
    "current", "previous", "two back", "three back", "previous+current", "two back+current", "two back+previous",
    "content", "second content", "third content", "content+current", "after last time", "word", "word+current",
    "word before", "sentence start", "name", "name end", "punctuation", "place", "place in sentence", "head 0.1",
    "quoted", "head 3.2",
)  # fmt: skip
LABELS = [
    torch.tensor(numbers)
    for numbers in (
        [0, 1, 2, 0, 4], [0, 3, 5], [0, 2, 2, 4], [0, 1, 0, 0], [1, 0, 1, 1], [1, -1, -1, -2], [-3, -2, 1, -3],
        [0, 2, 3, 4, 6], [0, 1, 1, 2, 0, 2],
    )
]  # fmt: skip

CASES: dict[str, list[Case]] = {
    **{name: PAIRS for name in ("add", "sub", "mul", "eq", "ne", "lt", "le", "gt", "ge")},
    **{name: BITS for name in ("or", "xor", "and")},
    **{name: SHIFTS for name in ("shift_left", "shift_right")},
    "div": [case(real(3, 4), real(4)), case(real(3, 4), 3)],
    "floordiv": [case(real(3, 4), 0.3), case(whole(3, 4), 3), case(whole(3, 4), -3)],
    "mod": [case(real(3, 4), 0.3), case(whole(3, 4), 3), case(whole(3, 4), -3)],
    "pow": [case(real(3, 4), 2), case(real(3, 4), 3.0), case(whole(3, 4), 2), case(real(3, 4).abs(), 0.5)],
    "neg": [case(real(3, 4)), case(whole(3, 4))],
    "invert": [case(whole(3, 4)), case(whole(3, 4) > 0)],
    "zeros": [case((2, 3)), case((2,), "int64"), case((2, 1), dtype="bool")],
    "full": [case((2, 3), 1.5), case((2,), 3, "int64"), case((), float("-inf"))],
    "arange": [case(0, 5), case(2, 11, 3), case(0, 4, dtype="float32"), case(5, 0, -2)],
    "cast": [case(real(3, 4, scale=5), "int64"), case(whole(3, 4), "float32"), case(whole(3, 4), "bool")],
    "size": [case(SHAPED, 1), case(SHAPED, -1)],
    "reshape": [case(SHAPED, (6, -1)), case(SHAPED.transpose(1, 2), (8, 15))],
    "flatten": [case(SHAPED, 1), case(SHAPED, 0, 1), case(SHAPED, -2, -1), case(SHAPED, 2, 2)],
    "unflatten": [case(real(2, 12, 3), 1, (4, -1)), case(real(2, 12), -1, (2, 2, 3))],
    "transpose": [case(SHAPED, 1, 2), case(SHAPED, -1, 0)],
    "permute": [case(SHAPED, (3, 0, 2, 1)), case(SHAPED, (0, -1, 1, 2))],
    "unsqueeze": [case(SHAPED, 0), case(SHAPED, 2), case(SHAPED, -1), case(SHAPED, 4)],
    "squeeze": [case(real(3, 1, 2), 1), case(real(3, 1, 2), 0), case(real(3, 1, 1), -1)],
    "expand": [case(real(3, 1), (3, 4)), case(real(3, 1), (2, -1, 5)), case(real(3), (2, 3))],
    "repeat": [case(real(2, 3), (2, 2)), case(real(3), (4, 1, 2))],
    "concat": [case((real(2, 3), real(2, 4)), 1), case((whole(2, 3), real(2, 3)), 0), case((real(2, 3),), -1)],
    "stack": [case((real(2, 3), real(2, 3)), 1), case((whole(2), real(2)), -1), case((whole(2) > 0, whole(2)), 0)],
    "split": [case(SHAPED, (1, 3), 2), case(SHAPED, (2, 2, 1), -1), case(SHAPED, (2,), 0)],
    "unbind": [case(SHAPED, 1), case(SHAPED, -1)],
    "select": [case(SHAPED, 1, 2), case(SHAPED, -1, -1), case(SHAPED, 0, 0)],
    "slice_axis": [case(SHAPED, 3, 1), case(SHAPED, -1, None, -2), case(SHAPED, 2, 0, 4, 2), case(SHAPED, 1, 1, 99)],
    "take": [case(SHAPED, torch.tensor([2, 0, 2]), 1), case(SHAPED, torch.tensor([1]), -1)],
    "gather": [case(real(3, 4), 1, whole(3, 2, low=0, high=4)), case(real(3, 4), 0, whole(2, 4, low=0, high=3))],
    "index": [
        case(SHAPED, (torch.tensor([1, 0]), None, torch.tensor([2, 3]))),
        case(SHAPED, (SHAPED > 0,)),
        case(SHAPED, (None, torch.tensor([[0], [2]]))),
        case(SHAPED, (torch.tensor([[0], [1]]), torch.tensor([0, 2]))),
    ],
    "pad": [
        case(SHAPED, (1, 2)),
        case(SHAPED, (1, 0, 2, 3), -1.0),
        case(SHAPED, (-1, 2)),
        case(whole(2, 3), (1, 1), 2),
    ],
    "flip": [case(SHAPED, (1,)), case(SHAPED, (0, -1))],
    "tril": [case(real(4, 4)), case(real(2, 3, 4), 1), case(whole(4, 4) > 0, -1)],
    "triu": [case(real(4, 4)), case(real(2, 3, 4), 1)],
    "split_heads": [case(real(2, 5, 12), 3)],
    "merge_heads": [case(SHAPED)],
    "repeat_heads": [case(SHAPED, 3)],
    **{name: SMOOTH for name in ("exp", "sin", "cos", "erf", "tanh", "sigmoid")},
    **{name: ABOVE for name in ("log", "sqrt", "rsqrt", "reciprocal")},
    **{name: ROUGH for name in ("absolute", "sign", "floor", "ceil", "round_half_even", "relu", "silu", "hardswish")},
    "hardsigmoid": ROUGH,
    "leaky_relu": [*ROUGH, case(real(3, 5), 0.2)],
    "elu": [*ROUGH, case(real(3, 5), alpha=0.5)],
    "gelu": [*ROUGH, case(real(3, 5, scale=3), approximate="tanh")],
    "softplus": [*ROUGH, case(real(3, 5, scale=30)), case(real(3, 5), 2.0, 1.0)],
    "clip": [
        case(real(3, 5), -0.5, 0.5),
        case(real(3, 5), low=0.1),
        case(whole(3, 5), None, 2),
        case(whole(3, 5), 0.5),
    ],
    **{
        name: [case(real(3, 5), real(5)), case(real(3, 5), 0.3), case(whole(3, 5), 0.3), case(whole(3, 5), 1)]
        for name in ("minimum", "maximum")
    },
    "where": [
        case(real(3, 5) > 0, real(3, 5), real(5)),
        case(real(3, 5) > 0, whole(3, 5), 0.5),
        case(real(3, 5) > 0, 1.0, 0.0),
        case(real(3, 5) > 0, 1, 0),
    ],
    "logical_not": [case(whole(3, 5)), case(real(3, 5) > 0)],
    "masked_fill": [case(real(3, 5), real(5) > 0, float("-inf")), case(whole(3, 5), real(3, 5) > 0, 7)],
    "total": [case(real(3, 5)), case(SHAPED, (1, -1)), case(SHAPED, (2,), True), case(whole(3, 5) > 0, (1,))],
    "mean": [case(real(3, 5)), case(SHAPED, (1, -1)), case(SHAPED, (2,), keep=True)],
    "variance": [case(SHAPED, (1,)), case(SHAPED, (-1, 1), 0, True)],
    "largest": [case(SHAPED, (1,)), case(SHAPED, (-1, 1), True), case(whole(3, 5), (0,))],
    "smallest": [case(SHAPED, (1,)), case(SHAPED, (-1, 1), True)],
    "argmax": [case(SHAPED, 1), case(SHAPED, -1, True)],
    "any_true": [case(whole(3, 5) > 3, 1), case(real(3, 5), 0, True)],
    "all_true": [case(whole(3, 5) > -4, 1), case(whole(3, 5), 0, True)],
    "cumsum": [case(SHAPED, 2), case(whole(3, 5) > 0, -1)],
    "diff": [case(real(3, 5)), case(whole(3, 5), 0), case(whole(3, 5), -1, whole(3, 1)), case(whole(3, 5) > 0)],
    "softmax": [case(SHAPED, -1), case(SHAPED * 100, 1)],
    "log_softmax": [case(SHAPED, -1), case(SHAPED * 100, 1)],
    "matmul": [case(real(2, 3, 4), real(4, 5)), case(SHAPED, real(5, 2)), case(real(4), real(4))],
    "einsum": [
        case("bij,bjk->bik", (real(2, 3, 4), real(2, 4, 5))),
        case("...i,oi -> ...o", (real(2, 3, 4), real(5, 4))),
    ],
    "linear": [case(real(2, 3, 4), real(5, 4), real(5)), case(real(4), real(5, 4)), case(real(3, 4), real(5, 4))],
    "affine": [case(real(2, 3, 4), real(4, 5), real(5)), case(real(3, 4), real(4, 5), real(5))],
    "embedding": [case(real(9, 4), whole(2, 3, low=0, high=9))],
    "layer_norm": [
        case(SHAPED, (5,), real(5), real(5, scale=2), 1e-5),
        case(SHAPED, (4, 5), None, None, 1e-3),
        case(SHAPED, (5,), real(5), None, 1e-5),
    ],
    "rms_norm": [case(SHAPED, real(5), 1e-5)],
    "top_k": [case(SHAPED, 2), case(real(3, 7), 7), case(torch.tensor([[2.0, 2.0, 1.0], [-1.0, -2.0, -3.0]]), 1)],
    "jump_relu": [case(SHAPED, real(5).abs()), case(real(3, 5), torch.zeros(5))],
    "batch_norm": [
        case(SHAPED, real(3), real(3, scale=2), real(3, scale=3), real(3).abs() + 0.1, 1e-5),
        case(real(4, 3), None, None, real(3, scale=3), real(3).abs() + 0.1, 1e-3),
    ],
    "group_norm": [case(IMAGE, 3, real(6), real(6, scale=2), 1e-5), case(real(2, 6), 2, None, None, 1e-5)],
    "rotary": [case(real(2, 3, 4, 6), real(2, 4, 6), real(2, 4, 6, scale=2))],
    "attention": [
        case(*HEADS),
        case(HEADS[0], HEADS[0] * 2, HEADS[0], causal=True),
        case(*HEADS, mask=whole(6, 7) > -2, scale=0.3),
        case(*HEADS, real(2, 1, 6, 7)),
        case(HEADS[0], HEADS[1][:, :2], HEADS[2][:, :2]),
        case(real(2, 3, 4), real(2, 3, 4), real(2, 3, 4), mask=SHUT),
        case(real(1, 1, 3, 4), real(1, 1, 3, 4), real(1, 1, 3, 4), mask=SHUT),
    ],
    "conv1d": [
        case(real(2, 6, 9), real(4, 6, 3), real(4)),
        case(real(2, 6, 9), real(4, 3, 3), None, 2, 1, 2, 2),
        case(real(2, 6, 9), real(6, 1, 2), real(6), groups=6),
    ],
    "conv2d": [
        case(IMAGE, real(4, 6, 3, 2), real(4)),
        case(IMAGE, real(4, 6, 3, 2), None, (2, 3), (1, 2), (2, 1)),
        case(IMAGE, real(4, 3, 3, 3), real(4), groups=2),
        case(IMAGE, real(12, 1, 3, 3), real(12), (2, 2), (1, 1), groups=6),
        case(IMAGE, real(4, 6, 1, 1), real(4)),
    ],
    "max_pool2d": [case(IMAGE, (2, 2), (2, 2)), case(IMAGE, (3, 2), (2, 1), (1, 1)), case(IMAGE, (2, 2), (3, 3))],
    "avg_pool2d": [case(IMAGE, (2, 2), (2, 2)), case(IMAGE, (3, 2), (2, 1), (1, 1))],
    "adaptive_avg_pool2d": [case(IMAGE, (1, 1)), case(IMAGE, (3, 4)), case(IMAGE, (4, 5))],
    "recurrent": [
        cells(cell, layers, directions, biases)
        for cell in ("rnn_tanh", "rnn_relu", "gru", "lstm")
        for layers, directions, biases in ((1, 1, True), (2, 1, False), (2, 2, True))
    ],
    "recurrent_cell": [
        case(f"{cell}_cell", real(2, 3), states, (real(gates * 5, 3), real(gates * 5, 5), *biases))
        for cell, gates in (("rnn_tanh", 1), ("rnn_relu", 1), ("gru", 3), ("lstm", 4))
        for states in [(real(2, 5), real(2, 5, scale=0.3))[: 1 + (cell == "lstm")]]
        for biases in ((real(gates * 5), real(gates * 5, scale=0.5)), ())
    ],
    "lookup": [
        case(((0, 1), (1, 0)), (whole(3, 4, low=0, high=2), whole(3, 4, low=0, high=2))),
        case((0.5, -1.0, 2.0), (torch.tensor([2.0, 0.0]),)),
        case((True, False), (whole(5, low=0, high=2),)),
    ],
    "positions": [case(whole(3, 4)), case(real(2, 5, 3))],
    "lengths": [case(whole(3, 4)), case(real(2, 5, 3))],
    "queries": [case(whole(3, 4))],
    "keys": [case(whole(3, 4))],
    "all_pairs": [case(whole(3, 4))],
    "selector_width": [case(CHOICE)],
    "aggregate": [case(CHOICE, whole(3, 5)), case(CHOICE, real(3, 5), 2.5)],
    "pick": [case(CHOICE, whole(3, 5)), case(CHOICE, whole(1, 5), 7)],
    "one_hot": [case(whole(3, 4), 3)],
    "is_in": [case(whole(3, 4), (2, -1, 7))],
    "index_of": [case(whole(3, 4), (2, -1, 7))],
    "slot_codes": [
        case(whole(4, 25, low=0, high=12), TRAITS, SLOTS[i : i + 4], LOOKS if i == 20 else ())
        for i in (*range(0, 24, 4), 24)
    ],
    "label_leaves": [case(whole(2, 9, 2, low=0, high=6), *LABELS)],
    "label_values": [case(whole(2, 4, 3, low=0, high=2), real(3, 2))],
    "always": [case(SHAPED[0], real(5), real(5, scale=2))],
    "looked_at": [
        case(real(2, 3, 6, 6).softmax(-1), 1, whole(2, 6, low=0, high=3)),
        case(real(2, 3, 6, 6).softmax(-1).tril(), 2, whole(2, 6, low=0, high=3), 1),
    ],
    "rule_pattern": [
        case(
            whole(2, 30, low=0, high=12), whole(3, 4, 12, low=0, high=4).to(torch.uint8), real(3, 12, 20),
            real(3, 12, 6), real(3, 20, 6), real(3, 12, 8), (3, 5), (1, 2), (0, 1, 2, 4, 8, 16), (0, 1, 4), 6, 9,
        )
    ],
}  # fmt: skip

ALL = [pytest.param(name, *given, id=f"{name}-{i}") for name in TORCH for i, given in enumerate(CASES.get(name, []))]


def to_numpy(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.numpy()
    return tuple(map(to_numpy, value)) if isinstance(value, Sequence) and not isinstance(value, str) else value


def same(expected: Any, found: Any) -> None:
    if isinstance(expected, tuple | list):
        assert len(expected) == len(found)
        for one, other in zip(expected, found, strict=True):
            same(one, other)
    elif isinstance(expected, Tensor):
        assert str(np.asarray(found).dtype) == str(expected.dtype)[6:]
        np.testing.assert_allclose(found, expected.numpy(), rtol=2e-5, atol=2e-6, strict=False)
        assert np.shape(found) == tuple(expected.shape)
    else:
        assert (found, type(found)) == (expected, type(expected))


def test_every_primitive_has_cases_and_a_twin() -> None:
    assert set(TORCH) == set(CASES)
    assert set(TORCH) == set(NUMPY)


@pytest.mark.parametrize(("name", "args", "kwargs"), ALL)
def test_twins_agree(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    expected = TORCH[name](*args, **kwargs)
    same(expected, NUMPY[name](*map(to_numpy, args), **{key: to_numpy(value) for key, value in kwargs.items()}))


@pytest.mark.parametrize("name", sorted(set(TORCH) - set(OPERATORS) - set(PREFIXES)))
def test_twins_have_the_same_signature(name: str) -> None:
    shapes = [
        [
            (parameter.name, parameter.kind, parameter.default)
            for parameter in inspect.signature(function).parameters.values()
        ]
        for function in (TORCH[name], NUMPY[name])
    ]
    assert shapes[0] == shapes[1]


def test_erf_is_accurate_everywhere() -> None:
    x = torch.linspace(-7, 7, 20001, dtype=torch.float64)
    assert np.abs(NUMPY["erf"](x.numpy()) - torch.erf(x).numpy()).max() < 1e-14
