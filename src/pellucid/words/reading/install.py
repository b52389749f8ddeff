"""Descriptions put into the program: every described function gets a reading of kind "words".

What an MLP's dictionary finds is said by labels, a function of the token ids alone; what the dictionary misses is said
by one constant, and another for the first position. Where an attention head looks is said by its rule; what it moves
(values and output) stays weights. Token ids are handed down (`threading`), so that `program.run(ids, reading="words")`
runs, and every function without words runs as it does without. Nothing that is exact changes.

A dictionary is expected as three functions below the MLP's: NAME.dictionary(x) gives the latents, NAME.written(latents)
what they write, NAME.missed(x, written) the rest (`pellucid.dictionaries`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped

from pellucid.errors import BadInput
from pellucid.ir.bits import REAL_BITS, code_bits
from pellucid.ir.graph import Arg, Block, Node, Ref, ValueType, Weight, refs
from pellucid.ir.naming import distinct
from pellucid.ir.program import Function, Program, Reading
from pellucid.ir.threading import holders, with_ids
from pellucid.words.heads.rule import HeadRule
from pellucid.words.labels.citing import check_citations, cited_units, levels
from pellucid.words.labels.labelset import LabelSet
from pellucid.words.reading.arrays import label_tables, rule_arguments, traits_of

DICTIONARY, WRITTEN, MISSED, RULE, CITED = ".dictionary", ".written", ".missed", ".rule", ".cited"
TRAITS = "words.traits"
CONSTANT, FIRST, VALUES = ".constant", ".first", ".labels.values"
"""Names, below those of functions, of what is tuned: what is missed, the same at the first position, labels' values."""


@dataclass(frozen=True)
class Words:
    """What is known of a network in words.

    Attributes:
        labels: of the latents of each MLP's dictionary, by the MLP's name.
        rules: of heads; an attention function is described when all its heads have one.
    """

    labels: Mapping[str, LabelSet]
    rules: Sequence[HeadRule] = ()

    @property
    def attentions(self) -> dict[str, tuple[HeadRule, ...]]:
        """The rules of each attention function, in order of heads."""
        found: dict[str, list[HeadRule]] = {}
        for rule in self.rules:
            found.setdefault(rule.function, []).append(rule)
        return {name: tuple(sorted(rules, key=lambda rule: rule.head)) for name, rules in found.items()}


def install_words(program: Program, words: Words) -> Program:
    """The program with readings of kind "words", not chosen; what dictionaries miss is said to be zero.

    Raises:
        BadInput: a function is not there or not of the expected form, labels do not fit a dictionary, or a label cites
            a head that has no rule, or a unit that is no labelled one of an earlier MLP.
    """
    latents = [name + DICTIONARY for name in words.labels]
    rules = words.attentions
    program = with_ids(program, [*latents, *rules])
    ids = holders(program)
    for name, of in rules.items():
        program = _with_rule(program, name, of, ids[name])
    known = Known(head_names(program, rules), mlp_names(program), cited_units(words.labels.values()))
    places = {name: place for place, name in known.mlps.items()}
    sizes = {places[name]: len(labels) for name, labels in words.labels.items()}
    for name, labels in words.labels.items():
        check_citations(places[name], labels, sizes)
        program = _with_labels(program, name, labels, ids[name + DICTIONARY], known)
        if cited := known.cited.get(places[name]):
            program = _with_cited(program, name, labels.some(cited), ids[name + DICTIONARY], known)
        program = _with_missed(program, name)
    return program


def words_of(program: Program, words: Words) -> Words:
    """The same words with the numbers that the program holds, for example after tuning."""
    labels = {
        name: found.with_values(program.weights[name + DICTIONARY + VALUES].numpy())
        for name, found in words.labels.items()
    }

    def rule(of: HeadRule) -> HeadRule:
        tables = {key: program.weights[f"{of.function}{RULE}.{key}"][of.head].numpy() for key in of.tables}
        return dataclasses.replace(of, tables=tables)

    return Words(labels, tuple(rule(of) for of in words.rules))


def choose(program: Program, names: Collection[str] | None = None) -> Program:
    """The same program that runs by words where these functions (None: all) have them, and exactly elsewhere."""
    functions = {
        name: dataclasses.replace(
            function, chosen="words" if has_words(function) and (names is None or name in names) else "weights"
        )
        for name, function in program.functions.items()
    }
    return dataclasses.replace(program, functions=functions)


def worded(program: Program) -> Program:
    """The same program that runs by words where functions have them, and elsewhere as it does."""
    functions = {
        name: dataclasses.replace(function, chosen="words") if has_words(function) else function
        for name, function in program.functions.items()
    }
    return dataclasses.replace(program, functions=functions)


def has_words(function: Function) -> bool:
    """Whether a function has a reading of kind "words"."""
    return any(reading.kind == "words" for reading in function.readings)


def parts_of(program: Program) -> dict[str, tuple[str, ...]]:
    """The functions that have words, by the MLP or attention function whose description they make up."""
    found: dict[str, tuple[str, ...]] = {}
    for name in program.functions:
        described = (name, name + DICTIONARY, name + MISSED)
        own = tuple(one for one in described if one in program.functions and has_words(program[one]))
        if own and not name.endswith((DICTIONARY, MISSED)):
            found[name] = own
    return found


def head_names(program: Program, rules: Mapping[str, Sequence[HeadRule]]) -> dict[str, tuple[str, HeadRule]]:
    """Attention function and rule of each head by its short name: "3.1" is head 1 of the fourth attention function."""
    order = [name for name, function in program.functions.items() if _attention_of(function) is not None]
    return {f"{place}.{rule.head}": (name, rule) for place, name in enumerate(order) for rule in rules.get(name, ())}


def mlp_names(program: Program) -> dict[int, str]:
    """The functions that have a dictionary, by their place: "1.17" is unit 17 of the second of them."""
    names = [name for name in program.functions if name + DICTIONARY in program.functions]
    return dict(enumerate(names))


# ---- attention


def _attention_of(function: Function) -> Node | None:
    found = [node for node in function.reading("weights").body.nodes if node.op == "attention"]
    return found[0] if len(found) == 1 else None


def _with_rule(program: Program, name: str, rules: Sequence[HeadRule], ids: str) -> Program:
    function = program[name]
    attention = _attention_of(function)
    if attention is None:
        raise BadInput(f"{name}: it does not attend in one step; rules of heads cannot be put into it")
    if [rule.head for rule in rules] != list(range(len(rules))):
        raise BadInput(f"{name}: it has rules of heads {[rule.head for rule in rules]}; give one for each, from 0")
    rule = name + RULE
    tensors, literals = rule_arguments(rules)
    weights = {f"{rule}.{key}": tensor for key, tensor in tensors.items()}
    pattern = f"pattern_{len(program.values)}"
    shape = ValueType("float32", (*program.values[ids].axes[:1], len(rules), *program.values[ids].axes[1:] * 2))
    node = Node((pattern,), "rule_pattern", (Ref(ids), *map(Weight, weights), *literals), scope=rule)
    exact = Reading("weights", Block((ids,), (node,), (pattern,)), "rule", sum(r.bits for r in rules), "what rules say")
    made = Function(rule, "rule", rule, (ids,), (pattern,), (exact,))
    program = dataclasses.replace(program, values={**program.values, pattern: shape}).with_function(made, weights)
    body = _ruled(program, function, attention, rule, ids, len(rules))
    told = f"{len(rules)} heads look where rules over tokens say; values and output stay weights"
    return program.with_function(function.with_reading(_reading(body, code_bits(body), told), choose=False))


def _ruled(program: Program, function: Function, attention: Node, rule: str, ids: str, heads: int) -> Block:
    """The exact body with the pattern from the rule, and what then nothing reads left out."""
    given = dict(zip(("q", "k", "v"), attention.args, strict=False)) | dict(attention.kwargs)
    values = given["v"]
    assert isinstance(values, Ref)
    body = function.reading("weights").body
    fresh = _fresh_names(body)
    looked, mixed = next(fresh), Node(attention.outputs, "matmul", (), scope=attention.scope)
    kind = program.values.get(values.name)
    shared = heads // kind.axes[1] if kind is not None and isinstance(kind.axes[1], int) else 1
    nodes = [Node((looked,), "call", (Ref(ids),), function=rule)]
    if shared > 1:
        nodes.append(Node((next(fresh),), "repeat_heads", (values, shared)))
        values = Ref(nodes[-1].id)
    nodes.append(mixed.with_changes(args=(Ref(looked), values)))
    place = body.nodes.index(attention)
    return _living(dataclasses.replace(body, nodes=(*body.nodes[:place], *nodes, *body.nodes[place + 1 :])))


def _living(block: Block) -> Block:
    needed, kept = set(block.outputs), []
    for node in reversed(block.nodes):
        if needed.intersection(node.outputs):
            kept.append(node)
            needed.update(refs(node))
    return dataclasses.replace(block, nodes=tuple(reversed(kept)))


def _fresh_names(block: Block) -> Iterator[str]:
    taken = {*block.inputs, *(name for node in block.nodes for name in node.outputs)}
    while True:
        name = distinct("looked", taken)
        taken.add(name)
        yield name


# ---- dictionaries


@dataclass(frozen=True)
class Known:
    """What labels may cite.

    Attributes:
        heads: attention function and rule by short name (`head_names`).
        mlps: by place (`mlp_names`).
        cited: the units that are cited, by place of their MLP.
    """

    heads: Mapping[str, tuple[str, HeadRule]]
    mlps: Mapping[int, str]
    cited: Mapping[int, tuple[int, ...]]


def _with_labels(program: Program, name: str, labels: LabelSet, ids: str, known: Known) -> Program:
    function = program[name + DICTIONARY]
    (output,) = function.outputs
    count = program.values[output].axes[-1] if output in program.values else len(labels)
    if count != len(labels):
        raise BadInput(f"{function.name}: it finds {count} latents and has {len(labels)} labels; give one for each")
    nodes, weights = _rules_that_hold(labels, ids, known, function.name)
    if TRAITS in program.weights and not torch.equal(program.weights[TRAITS], weights[TRAITS]):
        raise BadInput(f"labels of {name}: their lexicon is not that of the others; grow all labels with one")
    weights[function.name + VALUES] = torch.from_numpy(labels.values.copy())
    nodes.append(Node((output,), "label_values", (Ref("rules"), Weight(function.name + VALUES))))
    body = Block(function.inputs, tuple(nodes), function.outputs)
    bits = code_bits(body) + sum(label.bits for label in labels.labels)
    told = f"{len(labels)} latents as their labels say"
    return program.with_function(function.with_reading(_reading(body, bits, told), choose=False), weights)


def _with_cited(program: Program, name: str, labels: LabelSet, ids: str, known: Known) -> Program:
    """The program with a function that gives the levels of the units that later labels cite."""
    made, output = name + DICTIONARY + CITED, f"levels_{len(program.values)}"
    nodes, weights = _rules_that_hold(labels, ids, known, made)
    weights[f"{made}.levels"] = torch.from_numpy(levels(labels))
    nodes.append(Node((output,), "label_values", (Ref("rules"), Weight(f"{made}.levels"))))
    body = Block((ids,), tuple(nodes), (output,))
    exact = Reading("weights", body, "labels", code_bits(body), "how much the labels say that others cite")
    shape = ValueType("int64", (*program.values[ids].axes, len(labels)))
    program = dataclasses.replace(program, values={**program.values, output: shape})
    return program.with_function(Function(made, "labels", made, (ids,), (output,), (exact,)), weights)


def _rules_that_hold(
    labels: LabelSet, ids: str, known: Known, name: str
) -> tuple[list[Node], dict[str, Shaped[torch.Tensor, "..."]]]:
    """The nodes that find which rule of each label gives its value, "rules", and their weights."""
    tensors = label_tables(labels)
    weights = {TRAITS: traits_of(labels.lexicon), **{f"{name}.labels.{key}": value for key, value in tensors.items()}}
    given, nodes = _given(labels, ids, known, name)
    tables = tuple(Weight(f"{name}.labels.{key}") for key in tensors)
    nodes.append(Node(("codes",), "slot_codes", (Ref(ids), Weight(TRAITS), labels.slots, given)))
    nodes.append(Node(("rules",), "label_leaves", (Ref("codes"), *tables)))
    return nodes, weights


def _given(labels: LabelSet, ids: str, known: Known, name: str) -> tuple[tuple[Arg, ...], list[Node]]:
    """What slots of heads and units need, in the order of the slots, and the nodes that find it."""
    nodes: list[Node] = []
    found: list[Arg] = []
    called: dict[str, str] = {}

    def call(function: str) -> Ref:
        if function not in called:
            called[function] = f"found{len(called)}"
            nodes.append(Node((called[function],), "call", (Ref(ids),), function=function))
        return Ref(called[function])

    for slot in labels.cites:
        kind, _, cited = slot.partition(" ")
        if kind == "head":
            if cited not in known.heads:
                raise BadInput(f"{name}: a label looks where head {cited} looks, but that head has no rule; fit one")
            attention, rule = known.heads[cited]
            beginning = rule.grammar.beginning
            resting = beginning if rule.rests and beginning is not None else -1
            args: tuple[Arg, ...] = (call(attention + RULE), rule.head, Ref(ids), resting)
            nodes.append(Node((f"place{len(found)}",), "looked_at", args))
        else:
            place, number = map(int, cited.split("."))
            column = known.cited[place].index(number)
            args = (call(known.mlps[place] + DICTIONARY + CITED), -1, column)
            nodes.append(Node((f"level{len(found)}",), "select", args))
        found.append(Ref(nodes[-1].id))
    return tuple(found), nodes


def _with_missed(program: Program, name: str) -> Program:
    function = program[name + MISSED]
    (output,) = function.outputs
    width = program.values[output].axes[-1]
    if not isinstance(width, int):
        raise BadInput(f"{function.name}: the width of {output!r} is not known; trace the network again")
    names = (function.name + CONSTANT, function.name + FIRST)
    node = Node((output,), "always", (Ref(function.inputs[-1]), *map(Weight, names)))
    body = Block(function.inputs, (node,), function.outputs)
    reading = _reading(body, code_bits(body) + 2 * width * REAL_BITS, "what is missed as a constant")
    weights = {constant: torch.zeros(width) for constant in names}
    return program.with_function(function.with_reading(reading, choose=False), weights)


def _reading(body: Block, bits: float, summary: str) -> Reading:
    """A reading that claims nothing: what words keep is measured, not promised."""
    return Reading("words", body, "words", bits, summary, measure="decision", budget=1.0)


def with_missed(
    program: Program, missed: Mapping[str, tuple[Float[torch.Tensor, " width"], Float[torch.Tensor, " width"]]]
) -> Program:
    """The program with what each MLP's dictionary misses set: one constant, and one for the first position."""
    weights: dict[str, torch.Tensor] = {}
    for name, (constant, first) in missed.items():
        weights |= {name + MISSED + CONSTANT: constant, name + MISSED + FIRST: first}
    return dataclasses.replace(program, weights={**program.weights, **weights})
