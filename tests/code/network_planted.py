"""Networks with planted structure, and how they become programs."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from pellucid.code.methods import METHODS
from pellucid.code.propose import find_code
from pellucid.ir.program import Program
from pellucid.lift.trace import trace
from pellucid.modules.partition import partition
from pellucid.modules.structure import structure

torch.set_num_threads(1)


def dense(weight, bias=None):
    """A linear layer with these numbers."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(np.asarray(weight, np.float32)))
        if bias is not None:
            layer.bias.copy_(torch.tensor(np.asarray(bias, np.float32)))
    return layer


def read(network, inputs, methods=METHODS) -> Program:
    """The program of a network with code readings found on these inputs, a tensor or a tuple of them."""
    inputs = inputs if isinstance(inputs, tuple) else (inputs,)
    graph = trace(network.eval(), inputs)
    return find_code(structure(graph, partition(graph)), [inputs], methods)


def off(program, network, inputs):
    """The largest difference between the two, relative to the network's largest output."""
    with torch.no_grad():
        wanted, found = network(inputs), program(inputs)
    assert found.shape == wanted.shape
    assert found.dtype == wanted.dtype
    return float((found - wanted).abs().max() / wanted.abs().max())


def code(program, name=None):
    """The code reading of a function, the entry unless named; fails where there is none."""
    reading = program[name or program.entry].reading("code")
    assert reading.kind == "code", [(note.part, note.method, note.outcome) for note in program.notes.trail]
    return reading


def has_code(program):
    """Names of the functions with a code reading."""
    return [name for name, function in program.functions.items() if function.reading("code").kind == "code"]
