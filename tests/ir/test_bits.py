import pytest
import torch

from pellucid.ir.bits import OPERATION_BITS, block_bits, code_bits, integer_bits, tensor_bits
from pellucid.ir.graph import Block, Node, Ref, Weight


def test_integers_cost_twice_their_logarithm():
    assert [integer_bits(n) for n in (0, 1, -1, 2, 3, 7, 8)] == [2.0, 4.0, 4.0, 4.0, 6.0, 8.0, 8.0]


def test_a_block_costs_its_operations_and_arguments():
    block = Block(("x", "y"), (Node(("z",), "add", (Ref("x"), Ref("y"))), Node(("w",), "mul", (Ref("z"), 3))), ("w",))
    assert code_bits(block) == pytest.approx(2 * OPERATION_BITS + 1 + 1 + torch.tensor(3.0).log2().item() + 6)


def test_whole_reals_are_as_cheap_as_integers_and_others_are_not():
    def bits(value):
        return code_bits(Block(("x",), (Node(("y",), "mul", (Ref("x"), value)),), ("y",)))

    assert bits(3.0) == bits(3) < bits(3.14)
    assert bits(float("inf")) == bits(3.14)
    assert bits(True) == bits(None) == bits(0) - 1


def test_weights_cost_their_stored_width():
    assert tensor_bits(torch.zeros(3, 4)) == 12 * 32
    assert tensor_bits(torch.zeros(3, dtype=torch.bool)) == 24
    block = Block(("x",), (Node(("y",), "mul", (Ref("x"), Weight("w"))),), ("y",))
    assert block_bits(block, {"w": torch.zeros(10), "other": torch.zeros(99)}) == code_bits(block) + 320


def test_a_loop_costs_its_body_once(program):
    loop = program["cell"].readings[0].body.nodes[2]
    assert code_bits(Block(("h0", "xs"), (loop,), ("all",))) > code_bits(loop.body)


def test_shorter_is_measurable(program):
    """A running sum costs less as code than as a loop."""
    exact, code = (reading.body for reading in program["cell"].readings)
    assert code_bits(code) < code_bits(exact)
