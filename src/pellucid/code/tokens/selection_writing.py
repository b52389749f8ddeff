"""Programs of selections as a body of primitives: rules become arrays of truth values, variables arrays of numbers."""

from __future__ import annotations

from dataclasses import dataclass, field

from pellucid.code.expressions.expression import COMPARISONS, Call, Expr, Linear, Lookup, Name, Number, names_in
from pellucid.code.propose import Part
from pellucid.code.recurrent.writing import Writer
from pellucid.code.samples import named
from pellucid.code.tokens.corpus import Corpus
from pellucid.code.tokens.relations import AT_KEY, AT_QUERY, Rule
from pellucid.code.tokens.sequence_variables import PARTS, Known, Selection, Variable
from pellucid.ir.graph import Arg, Block, Ref
from pellucid.ir.program import Measure

_LOGIC = frozenset({"and", "or", "xor"})


@dataclass(frozen=True)
class Answer:
    """What a program puts out.

    Attributes:
        expr: the class at each position, -1 for none; or the number.
        classes: how many outputs there are, 0 for a number.
        first: the class or number at the mark of the beginning.
        measure, budget: what it claims.
        levels: the numbers that the expression chooses from, if it does not give the number itself.
    """

    expr: Expr
    classes: int
    first: float
    measure: Measure
    budget: float
    levels: tuple[float, ...] = ()


@dataclass
class TruthWriter(Writer):
    """Writes expressions, truth values as such and not as numbers."""

    def write(self, expr: Expr, name: str = "") -> Arg:
        """The value of an expression; a truth value becomes 0 or 1 only where it is reckoned with."""
        if isinstance(expr, Call) and expr.op == "where":
            condition, *cases = expr.args
            return self.node("where", self.truth(condition), *map(self.write, cases), name=name)
        if _is_truth(expr):
            return self.node("cast", self.truth(expr), self.dtype, name=name)
        if isinstance(expr, Lookup) and len(expr.args) == 1:
            return self._placed(expr, name)
        return super().write(expr, name)

    def truth(self, expr: Expr, name: str = "") -> Arg:
        """Whether an expression of value 0 or 1 is 1."""
        if isinstance(expr, Call) and expr.op == "in":
            members = tuple(int(part.value) for part in expr.args[1:] if isinstance(part, Number))
            return self.node("is_in", self.write(expr.args[0]), members, name=name)
        if isinstance(expr, Call) and expr.op in COMPARISONS:
            return self.node(expr.op, *map(self.write, expr.args), name=name)
        if isinstance(expr, Call) and expr.op in _LOGIC:
            total = self.truth(expr.args[0])
            for part in expr.args[1:]:
                total = self.node(expr.op, total, self.truth(part), name=name)
            return total
        if isinstance(expr, Linear) and _is_negation(expr):
            return self.node("invert", self.truth(expr.terms[0][1]), name=name)
        return self.node("ne", self.write(expr), 0, name=name)

    def _placed(self, expr: Lookup, name: str) -> Arg:
        """A table over one number: the place in the list of keys, and the entry there unless it is the place itself."""
        keys = tuple(key for (key,) in expr.keys)
        dense = keys == tuple(range(len(keys)))
        argument = self.write(expr.args[0])
        place = argument if dense else self.node("index_of", argument, keys)
        if expr.values == tuple(range(len(keys))):
            return place
        return self.node("lookup", expr.values, (place,), name=name)


def _is_truth(expr: Expr) -> bool:
    """Whether an expression is made of comparisons, so that it is written as truth values."""
    if isinstance(expr, Call):
        return expr.op in COMPARISONS or (expr.op in _LOGIC and all(map(_is_truth, expr.args)))
    return isinstance(expr, Linear) and _is_negation(expr) and _is_truth(expr.terms[0][1])


def _is_negation(expr: Linear) -> bool:
    """Whether this is 1 - x."""
    return expr.constant == 1 and len(expr.terms) == 1 and expr.terms[0][0] == -1


@dataclass
class _Sequences:
    """Writes variables as they are needed, each once."""

    writer: TruthWriter
    known: Known
    skipped: int
    selections: dict[Selection, Ref] = field(default_factory=dict)

    def need(self, expr: Expr) -> None:
        """Write all variables that an expression reads."""
        for name in self.known:
            if name in names_in(expr) and name not in self.writer.known:
                self.writer.known[name] = self._variable(self.known[name])

    def _variable(self, variable: Variable) -> Ref:
        node = self.writer.node
        if variable.kind == "given":
            return node("positions", self._tokens(), name="indices")
        assert variable.selection is not None
        if variable.name == "length":
            return node("lengths", self._tokens(), name="length")
        chosen = self.selection(variable.selection)
        if variable.kind == "width":
            return node("selector_width", chosen, name=variable.name)
        assert variable.value is not None
        self.need(variable.value)
        if variable.kind == "counted":
            marked = node("keys", self.writer.truth(variable.value))
            return node("selector_width", node("and", chosen, marked), name=variable.name)
        value = self.writer.array(variable.value, f"{variable.name}_source")
        if variable.kind == "mean":
            mean = node("aggregate", chosen, value, 0.0, "float32", name=f"{variable.name}_share")
            return node("cast", node("round_half_even", node("mul", mean, PARTS)), "int64", name=variable.name)
        return node("pick", chosen, value, *([variable.default] if variable.default != -1 else []), name=variable.name)

    def _tokens(self) -> Ref:
        tokens = self.writer.known["tokens"]
        assert isinstance(tokens, Ref)
        return tokens

    def mean(self, variable: Variable) -> Ref:
        """A mean as a real number."""
        assert variable.selection is not None
        assert variable.value is not None
        self.need(variable.value)
        value = self.writer.array(variable.value, f"{variable.name}_source")
        return self.writer.node(
            "aggregate", self.selection(variable.selection), value, 0.0, "float32", name=variable.name
        )

    def selection(self, selection: Selection) -> Ref:
        """The truth values [batch, query, key] of a selection."""
        if selection not in self.selections:
            chosen = self._rule(selection.rule)
            if selection.causal:
                self.need(Name("indices"))
                indices = self.writer.known["indices"]
                seen = self.writer.node("le", *(self.writer.node(side, indices) for side in ("keys", "queries")))
                chosen = self.writer.node("and", chosen, seen)
            self.selections[selection] = chosen
        return self.selections[selection]

    def _rule(self, rule: Rule) -> Ref:
        node, expr = self.writer.node, rule.key
        if rule.op == "all":
            return node("all_pairs", self._tokens(), name="selected")
        if rule.op == "holds":
            return self._condition(expr)
        self.need(rule.key)
        self.need(rule.query)
        key = self.writer.array(rule.key, "order")
        query = key if rule.key == rule.query else self.writer.array(rule.query, "wanted")
        return node(rule.op, node("keys", key), node("queries", query), name="selected")

    def _condition(self, expr: Expr) -> Ref:
        """A condition over both sides, or over one of them."""
        for name in sorted(names_in(expr)):
            at_key = name.startswith(AT_KEY)
            plain = name.removeprefix(AT_KEY).removeprefix(AT_QUERY)
            self.need(Name(plain))
            value = self.writer.known[plain]
            side = "keys" if at_key else "queries"
            self.writer.known[name] = value if self._one_sided(expr) else self.writer.node(side, value)
        found = self.writer.truth(expr, "selected")
        if self._one_sided(expr):
            side = "keys" if any(name.startswith(AT_KEY) for name in names_in(expr)) else "queries"
            found = self.writer.node(
                "and", self.writer.node("all_pairs", self._tokens()), self.writer.node(side, found)
            )
        assert isinstance(found, Ref)
        return found

    def _one_sided(self, expr: Expr) -> bool:
        """Whether a condition reads variables of keys only, or of queries only."""
        return len({name.startswith(AT_KEY) for name in names_in(expr)}) < 2


def write_program(part: Part, corpus: Corpus, known: Known, answer: Answer) -> Block:
    """The body that computes the answer from the token ids.

    Raises:
        InvalidProgram: a table is too large to be written out.
    """
    (source,), (target,) = part.function.inputs, part.function.outputs
    writer = TruthWriter("int64", taken={source, target})
    sequences = _Sequences(writer, known, corpus.skipped)
    ids = Ref(source)
    skipped = corpus.skipped
    writer.known["tokens"] = writer.node("slice_axis", ids, 1, skipped, name="tokens") if skipped else ids
    for name in names_in(answer.expr) if not answer.classes and not answer.levels else ():
        if known[name].kind == "mean":
            writer.known[name] = sequences.mean(known[name])
    sequences.need(answer.expr)
    value = writer.array(answer.expr, "answer")
    if answer.levels:
        value = writer.node("lookup", answer.levels, (value,), name="level")
    if not answer.classes:
        value = writer.node("cast", value, "float32")
    if _padded(part, skipped):
        value = writer.node("pad", value, (1, 0), int(answer.first) if answer.classes else answer.first)
    value = (
        writer.node("one_hot", value, answer.classes, "float32")
        if answer.classes
        else writer.node("unsqueeze", value, -1)
    )
    return named(part, writer, value)


def _padded(part: Part, skipped: int) -> bool:
    """Whether the network puts out something at the mark of the beginning."""
    return bool(skipped and part.inputs[0][0].shape[1] == part.outputs[0][0].shape[1])
