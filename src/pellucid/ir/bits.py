"""Description length in bits: what "shorter" means.

A block costs, for each node, its operation out of all operations and each argument: a value out of those in scope, an
integer by its Elias gamma code, a real number 32 bits, a weight tensor its elements at their stored width.
A fixed and stated code, not an optimal one: it serves to compare readings of the same part.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from jaxtyping import Shaped

from pellucid.ir.graph import Arg, Block, Ref, Weight, leaves, weights_read
from pellucid.ir.primitives import TORCH

OPERATION_BITS = math.log2(len(TORCH) + 3)
REAL_BITS = 32.0


def integer_bits(n: int) -> float:
    """Length of the Elias gamma code of |n| + 1, and a sign."""
    return 2.0 * math.floor(math.log2(abs(n) + 1)) + 2.0


def _arg_bits(leaf: Arg, in_scope: int) -> float:
    if isinstance(leaf, Ref | Weight):
        return math.log2(max(2, in_scope))
    if isinstance(leaf, bool) or leaf is None:
        return 1.0
    if isinstance(leaf, int):
        return integer_bits(leaf)
    if isinstance(leaf, str):
        return 8.0 * len(leaf)
    whole = isinstance(leaf, float) and leaf.is_integer() and abs(leaf) < 2**24
    return integer_bits(int(leaf)) if whole else REAL_BITS  # type: ignore[arg-type]


def code_bits(block: Block) -> float:
    """Bits of the nodes of a block, without the contents of the weights it reads."""
    in_scope, bits = len(block.inputs), 0.0
    for node in block.nodes:
        bits += OPERATION_BITS + sum(_arg_bits(leaf, in_scope) for leaf in leaves(node))
        bits += code_bits(node.body) if node.body is not None else 0.0
        in_scope += len(node.outputs)
    return bits


def tensor_bits(tensor: Shaped[torch.Tensor, "..."]) -> float:
    """Bits of a tensor's elements at their stored width."""
    return 8.0 * tensor.numel() * tensor.element_size()


def block_bits(block: Block, weights: Mapping[str, torch.Tensor]) -> float:
    """Bits of a block and of the weights it reads itself (those of functions it calls are counted there)."""
    return code_bits(block) + sum(tensor_bits(weights[name]) for name in weights_read(block))
