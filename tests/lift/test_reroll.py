"""Hand-written recurrences: however the loop is written, it is one loop again, and runs at any length."""

from __future__ import annotations

import pytest
import torch
from lifted import Net, gap, lifted, network_outputs, ops, run, weight
from torch import nn
from torch.export import Dim, export

from pellucid.ir.graph import Block, Graph, Node, Ref, ValueType, Weight
from pellucid.lift.folding import fold
from pellucid.lift.importing import import_exported
from pellucid.lift.reroll import generalise, reroll
from pellucid.lift.trace import trace
from pellucid.lift.unrolled import Loop, find_loops, straighten

SIZE, WIDE = 3, 6


class Written(nn.Module):
    """A recurrence written in the style of the method named `style`."""

    def __init__(self, style: str):
        super().__init__()
        torch.manual_seed(0)
        self.style = style
        self.joint, self.both = nn.Linear(SIZE + WIDE, WIDE), nn.Linear(2 * WIDE, WIDE)
        self.inward, self.across, self.out = nn.Linear(SIZE, WIDE), nn.Linear(WIDE, WIDE), nn.Linear(WIDE, 2)
        self.gru, self.lstm, self.rnn = nn.GRUCell(SIZE, WIDE), nn.LSTMCell(SIZE, WIDE), nn.RNNCell(SIZE, WIDE)
        self.first, self.row, self.position = weight(WIDE), weight(1, WIDE), weight(60, SIZE)

    def forward(self, x):
        return getattr(self, self.style)(x)

    def zero(self, x):
        return x.new_zeros(x.shape[0], WIDE)

    def next(self, x, h):
        return torch.tanh(self.inward(x) + self.across(h))

    def cat_and_linear(self, x):
        h, seen = torch.zeros(x.shape[0], WIDE), []
        for t in range(x.shape[1]):
            h = torch.tanh(self.joint(torch.cat([x[:, t], h], 1)))
            seen.append(self.out(h))
        return torch.stack(seen, 1)

    def two_linears_state_first(self, x):
        h, seen = self.zero(x), []
        for t in range(x.size(1)):
            h = torch.tanh(self.across(h) + self.inward(x[:, t, :]))
            seen += [h]
        return torch.stack(seen, dim=1)

    def gru_cell(self, x):
        h, seen = self.zero(x), []
        for t in range(x.size(1)):
            h = self.gru(x[:, t], h)
            seen.append(h)
        return self.out(torch.stack(seen, dim=1))

    def lstm_cell_with_states(self, x):
        h, c, seen = self.zero(x), self.zero(x), []
        for t in range(x.size(1)):
            h, c = self.lstm(x[:, t], (h, c))
            seen.append(self.out(h))
        return torch.stack(seen, dim=1), (h, c)

    def lstm_cell_without_states(self, x):
        state, seen = None, []
        for t in range(x.size(1)):
            state = self.lstm(x[:, t], state)
            seen.append(self.out(state[0]))
        return torch.stack(seen, dim=1)

    def for_in_time_first(self, x):
        h, seen = torch.zeros(x.shape[1], WIDE), []
        for x_t in x:
            h = torch.relu(self.inward(x_t) + self.across(h))
            seen.append(h)
        return torch.stack(seen)

    def unbind_unsqueeze_cat(self, x):
        h, seen = self.zero(x), []
        for x_t in x.unbind(1):
            h = self.rnn(x_t, h)
            seen.append(h.unsqueeze(1))
        return torch.cat(seen, 1)

    def cat_that_grows(self, x):
        h, seen = self.zero(x), torch.zeros(x.shape[0], 0, WIDE)
        for t in range(x.shape[1]):
            h = self.next(x[:, t], h)
            seen = torch.cat([seen, h.unsqueeze(1)], 1)
        return seen

    def written_into_a_buffer(self, x):
        h, seen = self.zero(x), torch.zeros(x.shape[0], x.shape[1], WIDE)
        for t in range(x.shape[1]):
            h = self.next(x[:, t], h)
            seen[:, t] = h
        return self.out(seen)

    def slices_of_length_one(self, x):
        h, seen = self.zero(x)[:, None], []
        for t in range(x.shape[1]):
            h = self.next(x[:, t : t + 1], h)
            seen.append(h)
        return torch.cat(seen, 1)

    def changed_in_place(self, x):
        h, seen = self.zero(x), []
        for t in range(x.shape[1]):
            h += self.next(x[:, t], h)
            seen.append(h.clone())
        return torch.stack(seen, 1)

    def last_state_only(self, x):
        h = self.zero(x)
        for t in range(x.shape[1]):
            h = self.next(x[:, t], h)
        return self.out(h)

    def two_states(self, x):
        h, g, seen = self.zero(x), self.zero(x), []
        for t in range(x.shape[1]):
            h = self.next(x[:, t], g)
            g = torch.sigmoid(self.both(torch.cat([h, g], -1)))
            seen.append(torch.cat([h, g], -1))
        return torch.stack(seen, 1)

    def starts_from_a_parameter(self, x):
        h = self.first.expand(x.shape[0], -1)
        for t in range(x.shape[1]):
            h = self.next(x[:, t], h)
        return self.out(h)

    def starts_from_a_bare_parameter(self, x):
        h = self.first
        for t in range(x.shape[1]):
            h = self.next(x[:, t], h)
        return self.out(h)

    def starts_from_a_repeated_row(self, x):
        h, seen = self.row.repeat(x.shape[0], 1), []
        for t in range(x.shape[1]):
            h = self.next(x[:, t], h)
            seen.append(h[:, None])
        return self.out(torch.cat(seen, 1))

    def backwards(self, x):
        h, seen = self.zero(x), []
        for t in reversed(range(x.shape[1])):
            h = self.next(x[:, t], h)
            seen.insert(0, h)
        return torch.stack(seen, 1), h

    def both_directions(self, x):
        h, g, there, back = self.zero(x), self.zero(x), [], []
        for t in range(x.shape[1]):
            h = self.next(x[:, t], h)
            there.append(h)
        for t in reversed(range(x.shape[1])):
            g = self.gru(x[:, t], g)
            back.append(g)
        return torch.cat([torch.stack(there, 1), torch.stack(back[::-1], 1)], -1)

    def two_layers_one_after_the_other(self, x):
        h, g, seen, made = self.zero(x), self.zero(x), [], []
        for t in range(x.shape[1]):
            h = self.next(x[:, t], h)
            seen.append(h)
        for y in seen:
            g = torch.sigmoid(self.both(torch.cat([y, g], 1)))
            made.append(g)
        return torch.stack(made, 1)

    def a_mean_that_divides_by_the_length(self, x):
        h, total = self.zero(x), self.zero(x)
        for t in range(x.shape[1]):
            h = self.next(x[:, t], h)
            total = total + h
        return total / x.shape[1]

    def reshaped_by_the_length(self, x):
        h, seen = self.zero(x), []
        for t in range(x.shape[1]):
            h = self.next(x[:, t], h)
            seen.append(h)
        flat = self.out(torch.stack(seen, 1).reshape(x.shape[0] * x.shape[1], WIDE))
        return flat.view(x.shape[0], x.shape[1], 2)

    def element_read_twice_and_after(self, x):
        h, seen = self.zero(x), []
        for t in range(x.shape[1]):
            h = self.next(x[:, t], h) * x[:, t, :1]
            seen.append(h)
        return torch.stack(seen, 1) + x[:, -1].sum(-1)[:, None, None]

    def positions_from_a_table(self, x):
        h = self.zero(x)
        for t in range(x.shape[1]):
            h = self.next(x[:, t] + self.position[t], h)
        return h

    def joined_along_the_batch(self, x):
        h, seen = self.zero(x), []
        for t in range(x.shape[1]):
            h = self.next(x[:, t], h)
            seen.append(self.out(h))
        return torch.cat(seen, dim=0)

    def no_state(self, x):
        return torch.stack([torch.tanh(self.inward(x[:, t])) for t in range(x.shape[1])], 1)

    # where the first or the last step differs, it stays outside, and there have to be two

    def first_step_without_state(self, x):
        h, seen = None, []
        for t in range(x.shape[1]):
            h = torch.tanh(self.inward(x[:, t])) if h is None else self.next(x[:, t], h)
            seen.append(h)
        return self.out(torch.stack(seen, 1))

    def starts_from_the_first_element(self, x):
        h = self.inward(x[:, 0])
        seen = [h]
        for t in range(1, x.shape[1]):
            h = self.next(x[:, t], h)
            seen.append(h)
        return torch.stack(seen, 1)

    def a_sum_that_starts_at_zero(self, x):
        total, seen = 0, []
        for t in range(x.shape[1]):
            total = total + self.inward(x[:, t])
            seen.append(total)
        return torch.stack(seen, 1)

    def two_names_for_one_state_that_start_differently(self, x):
        one, other, seen = self.zero(x), self.zero(x) + 1, []
        for t in range(x.shape[1]):
            one = other = torch.tanh(self.inward(x[:, t]) * one + self.across(other))
            seen.append(one)
        return torch.stack(seen, 1)

    def output_before_the_state_moves(self, x):
        h, seen = self.zero(x), []
        for t in range(x.shape[1]):
            seen.append(self.out(h))
            h = self.next(x[:, t], h)
        return torch.stack(seen, 1)

    def difference_to_the_last_element(self, x):
        last, seen = torch.zeros_like(x[:, 0]), []
        for t in range(x.shape[1]):
            seen.append(self.inward(x[:, t] - last))
            last = x[:, t]
        return torch.stack(seen, 1)


PEELED = (
    "first_step_without_state", "starts_from_the_first_element", "a_sum_that_starts_at_zero",
    "two_names_for_one_state_that_start_differently", "output_before_the_state_moves", "difference_to_the_last_element",
)  # fmt: skip
LOOPS = {"both_directions": 2, "two_layers_one_after_the_other": 2}
HELPERS = ("forward", "zero", "next", "__init__")
STYLES = [name for name in vars(Written) if name not in (*HELPERS, *PEELED) and not name.startswith("_")]


def sequences(style: str, *shapes: tuple[int, int]) -> list[tuple[torch.Tensor]]:
    generator = torch.Generator().manual_seed(1)
    made = [torch.randn(batch, length, SIZE, generator=generator) for batch, length in shapes]
    return [(x.transpose(0, 1).contiguous() if style == "for_in_time_first" else x,) for x in made]


@pytest.mark.parametrize("style", STYLES)
def test_a_loop_is_folded_and_runs_at_any_length(style):
    graph = lifted(Written(style), *sequences(style, (4, 5), (2, 1), (5, 3), (2, 50)))
    assert ops(graph)["scan"] == LOOPS.get(style, 1)
    assert not any(node.op == "select" and node.args[2] > 0 for node in graph.block.nodes)
    axes = graph.values["x"].axes
    assert "seq" in axes
    assert not any("only" in remark for remark in graph.remarks), graph.remarks


@pytest.mark.parametrize("style", PEELED)
def test_a_first_or_last_step_of_its_own_stays_outside(style):
    graph = lifted(Written(style), *sequences(style, (4, 5), (2, 2), (5, 3), (2, 50)))
    assert ops(graph)["scan"] == 1


def test_the_shortest_and_a_long_trace():
    for length in (3, 11):
        graph = lifted(Written("last_state_only"), *sequences("", (4, length), (2, 1), (2, 20)))
        assert ops(graph)["scan"] == 1
    assert ops(lifted(Written("last_state_only"), *sequences("", (4, 2))))["scan"] == 0


def test_an_lstm_step_has_two_states_and_one_output():
    graph = lifted(Written("lstm_cell_with_states"), *sequences("", (4, 5)))
    (scan,) = (node for node in graph.block.nodes if node.op == "scan")
    assert len(scan.args[0]) == 2
    assert scan.args[1] == (Ref("x"),)
    assert len(scan.body.outputs) == 3
    assert set(graph.block.outputs[1:]) == set(scan.outputs[:2])


def test_the_step_keeps_the_modules_it_came_from():
    graph = lifted(Written("last_state_only"), *sequences("", (4, 5)))
    (scan,) = (node for node in graph.block.nodes if node.op == "scan")
    assert {node.op: node.scope for node in scan.body.nodes if node.scope} == {"linear": "across"}
    assert {node.scope for node in scan.body.nodes} == {"", "inward", "across"}


# ---- what is no loop


def different_weights(net, x):
    h = x.new_zeros(x.shape[0], WIDE)
    for t, layer in enumerate(net.layers):
        h = torch.tanh(layer(x[:, t]) + h)
    return h


def different_operations(net, x):
    h = net.inward(x[:, 0])
    for t, act in enumerate((torch.tanh, torch.sigmoid, torch.relu, torch.exp)):
        h = act(h + net.inward(x[:, t]))
    return h


def every_step_reads_all_before(net, x):
    seen = [net.inward(x[:, 0])]
    for t in range(1, x.shape[1]):
        seen.append(torch.tanh(net.inward(x[:, t]) + sum(seen)))
    return seen[-1]


def numbers_that_differ(net, x):
    h = x.new_zeros(x.shape[0], WIDE)
    for t in range(x.shape[1]):
        h = torch.tanh(net.inward(x[:, t]) + h) * (t + 1)
    return h


def three_parts_of_a_projection(net, x):
    q, k, v = net.wide(x).reshape(x.shape[0], -1, 3, WIDE).unbind(2)
    return torch.softmax(q @ k.transpose(1, 2), -1) @ v


def three_parts_that_go_through_the_same(net, x):
    parts = net.wide(x).reshape(x.shape[0], -1, 3, WIDE).unbind(2)
    q, k, v = (torch.tanh(net.square(part)) for part in parts)
    return torch.softmax(q @ k.transpose(1, 2), -1) @ v


def memory_of_two_steps(net, x):
    h, g = x.new_zeros(x.shape[0], WIDE), x.new_ones(x.shape[0], WIDE)
    for t in range(x.shape[1]):
        h, g = torch.tanh(net.inward(x[:, t]) + g), h
    return h


def positions_out_of_order(net, x):
    h = x.new_zeros(x.shape[0], WIDE)
    for t in (2, 0, 3, 1):
        h = torch.tanh(net.inward(x[:, t]) + h)
    return h


@pytest.mark.parametrize(
    "compute",
    [
        different_weights,
        different_operations,
        every_step_reads_all_before,
        numbers_that_differ,
        three_parts_of_a_projection,
        three_parts_that_go_through_the_same,
        memory_of_two_steps,
        positions_out_of_order,
    ],
)
def test_what_is_no_loop_stays(compute):
    parts = nn.ModuleList([nn.Linear(SIZE, WIDE) for _ in range(4)])
    net = Net(
        compute,
        layers=parts,
        inward=nn.Linear(SIZE, WIDE),
        wide=nn.Linear(SIZE, 3 * WIDE),
        square=nn.Linear(WIDE, WIDE),
    )
    graph = lifted(net, *sequences("", (2, 4), (5, 4)))
    assert ops(graph)["scan"] == 0


def test_a_loop_whose_result_depends_on_the_length_otherwise_is_not_opened():
    """The weight that is read at the end depends on the length in a way that no longer trace shows."""

    def compute(net, x):
        h = x.new_zeros(x.shape[0], WIDE)
        for t in range(x.shape[1]):
            h = torch.tanh(net.inward(x[:, t]) + h)
        return h * net.scale[x.shape[1] - 1]

    net = Net(compute, inward=nn.Linear(SIZE, WIDE), scale=weight(9, WIDE))
    graph = lifted(net, *sequences("", (2, 4), (5, 4)))
    assert ops(graph)["scan"] == 1
    assert graph.values["args_0"].axes[1] == 4
    assert any("only for sequences of length 4" in remark for remark in graph.remarks)


def test_steps_over_stacked_weights_fold():
    def compute(net, x):
        for i in range(4):
            x = torch.tanh(x @ net.stacked[i])
        return x

    graph = lifted(Net(compute, stacked=weight(4, SIZE, SIZE)), *sequences("", (2, 4), (5, 7)))
    assert ops(graph)["scan"] == 1


def test_the_length_of_torchs_own_recurrence_is_open():
    for make in (nn.RNN, nn.GRU, nn.LSTM):
        net = Net(lambda net, x: net.cell(x)[0], cell=make(SIZE, WIDE, 2, batch_first=True, bidirectional=True))
        graph = lifted(net, *sequences("", (4, 5), (2, 1), (3, 30)))
        assert graph.values["args_0"].axes[1] == "seq"


# ---- the passes by themselves


def imported(module: nn.Module, x: torch.Tensor) -> Graph:
    shapes = {"x": dict.fromkeys(range(x.ndim), Dim.AUTO)}
    return import_exported(export(module.eval(), (x,), dynamic_shapes=shapes, strict=False), module)


@pytest.mark.parametrize(
    "style", ["cat_and_linear", "both_directions", "slices_of_length_one", "joined_along_the_batch"]
)
def test_reroll_and_generalise_keep_what_is_computed(style):
    module = Written(style)
    graph = imported(module, sequences(style, (4, 5))[0][0])
    straight, folded = straighten(graph), reroll(graph)
    for batch in (2, 5):
        (x,) = sequences(style, (batch, 5))[0]
        assert gap(run(straight, [x]), run(graph, [x])) == 0.0
        assert gap(run(folded, [x]), run(graph, [x])) < 1e-6
    tried = []
    opened = generalise(folded, lambda candidate: tried.append(candidate) or True)
    assert tried[-1] is opened
    for length in (1, 8):
        (x,) = sequences(style, (2, length))[0]
        assert gap(run(opened, [x]), network_outputs(module, (x,), {})) < 1e-6


def test_types_follow_the_length():
    graph = imported(Written("joined_along_the_batch"), sequences("", (4, 5))[0][0])
    assert graph.values[graph.block.outputs[0]].axes == ("5*batch", 2)
    opened = generalise(reroll(graph), lambda candidate: True)
    assert opened.values["x"].axes == ("batch", "seq", SIZE)
    assert opened.values[opened.block.outputs[0]].axes == ("seq*batch", 2)


def test_a_graph_that_does_not_hold_is_not_opened():
    folded = reroll(imported(Written("last_state_only"), sequences("", (4, 5))[0][0]))
    kept = generalise(folded, lambda candidate: False)
    assert kept.values["x"].axes == ("batch", 5, SIZE)
    assert kept.block == folded.block


def test_without_a_loop_the_graph_is_returned_as_it_was():
    module = nn.Sequential(nn.Linear(SIZE, 4), nn.ReLU())
    graph = trace(module, (torch.randn(2, SIZE),))
    assert reroll(graph) is graph
    assert generalise(graph, lambda candidate: True) is graph


def chain(length: int) -> Graph:
    """h = tanh(W x_t + h), written out over a [batch, length, 3] input."""
    nodes = [Node(("h0",), "zeros", ((2, 3),))]
    values = {"x": ValueType("float32", (2, length, 3)), "h0": ValueType("float32", (2, 3))}
    for t in range(length):
        nodes += [
            Node((f"x{t}",), "select", (Ref("x"), 1, t)),
            Node((f"w{t}",), "linear", (Ref(f"x{t}"), Weight("w"), None)),
            Node((f"s{t}",), "add", (Ref(f"w{t}"), Ref("h0" if t == 0 else f"h{t}"))),
            Node((f"h{t + 1}",), "tanh", (Ref(f"s{t}"),)),
        ]
        values.update({name: values["h0"] for name in (f"x{t}", f"w{t}", f"s{t}", f"h{t + 1}")})
    return Graph(Block(("x",), tuple(nodes), (f"h{length}",)), values, {"w": torch.randn(3, 3)})


@pytest.mark.parametrize(("length", "steps"), [(2, 0), (3, 3), (6, 6)])
def test_find_loops_on_a_planted_chain(length, steps):
    found = [*find_loops(straighten(chain(length)).block)]
    assert [len(loop.steps) for loop in found[:1]] == [steps] * (steps > 0)
    if found:
        assert len(found[0].steps[0]) == 4
        assert [node.id for node in found[0].before] == ["h0"]
        assert found[0].after == ()


@pytest.mark.parametrize("positions", [(0, 2, 4), (0, 1, 0), (2, 1, 2), (0, 1, 3)])
def test_fold_takes_only_positions_one_after_another(positions):
    graph = chain(6)
    at = {f"x{t}": position for t, position in enumerate(positions)}
    nodes = tuple(
        node.with_changes(args=(Ref("x"), 1, at[node.id])) if node.id in at else node for node in graph.block.nodes[:13]
    )
    steps = tuple(nodes[1 + 4 * t : 5 + 4 * t] for t in range(3))
    odd = graph.with_changes(block=Block(("x",), nodes, ("h3",)))
    folded, x = fold(odd, Loop(steps, nodes[:1], ())), torch.randn(2, 6, 3)
    assert folded is None or gap(run(folded, [x]), run(odd, [x])) < 1e-6
    straight = tuple(
        node.with_changes(args=(Ref("x"), 1, int(node.id[1:]))) if node.id in at else node for node in nodes
    )
    even = graph.with_changes(block=Block(("x",), straight, ("h3",)))
    assert fold(even, Loop(tuple(straight[1 + 4 * t : 5 + 4 * t] for t in range(3)), straight[:1], ())) is not None


def test_one_step_of_its_own_ends_the_loop_before_it():
    graph = chain(6)
    nodes = tuple(node.with_changes(op="relu") if node.id == "h5" else node for node in graph.block.nodes)
    odd = graph.with_changes(block=Block(graph.block.inputs, nodes, graph.block.outputs))
    folded = reroll(odd)
    (scan,) = (node for node in folded.block.nodes if node.op == "scan")
    assert folded.values[scan.args[1][0].name].axes == (2, 4, 3)
    x = torch.randn(2, 6, 3)
    assert gap(run(folded, [x]), run(odd, [x])) < 1e-6


class Packed(nn.Module):
    """Queries, keys and values of two layers, each unpacked from one tensor: reads of positions, and no loop."""

    def __init__(self):
        super().__init__()
        self.packed = nn.ModuleList(nn.Linear(8, 24) for _ in range(2))

    def forward(self, x):
        for layer in self.packed:
            q, k, v = layer(x).view(*x.shape[:2], 3, 2, 4).permute(2, 0, 3, 1, 4)
            mixed = nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + mixed.transpose(1, 2).reshape(x.shape)
        return x


def test_unpacked_queries_keys_and_values_are_no_loop():
    graph = lifted(Packed().eval(), (torch.randn(2, 5, 8),), (torch.randn(3, 9, 8),))
    assert "scan" not in ops(graph)
    assert ops(graph)["attention"] == 2
