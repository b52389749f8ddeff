"""Programs as Python that runs on its own, on numpy or torch and safetensors alone.

The file reads from the top: what it is and how much of it is still weights, the parts as chosen, callers first, then
the same parts as the network computes them, other readings, the primitives they are written in (copied), loading,
tables. Every line of a part is traced back to the nodes that it computes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from pellucid.emitters import frame
from pellucid.emitters.parts import CHOSEN, EXACT, OTHER, OWN, Part, Plan, kinds_of, plan
from pellucid.emitters.promotion import with_casts
from pellucid.emitters.sources import Dialect, copied, names_in
from pellucid.ir.expressions import broken, literal
from pellucid.ir.graph import Block, Node, ValueType, leaves
from pellucid.ir.likeness import Likeness, Variant, path_of_weights
from pellucid.ir.naming import all_nodes, distinct, identifier, parameter_names, relative, types_in
from pellucid.ir.notes import ReadingKind
from pellucid.ir.numpy_ops import NUMPY
from pellucid.ir.primitives import STRUCTURAL
from pellucid.ir.program import Function, Program
from pellucid.ir.statements import Callee, Listing, Place, write_block
from pellucid.ir.tensors import memory_order

NUMPY_LIMIT = 5_000_000
"""Largest number of parameters of a program that is emitted in numpy."""

_SECTIONS = {
    CHOSEN: "The program, callers before what they call.",
    EXACT: "The same parts as the network computes them, with its weights.",
    OTHER: "Other readings of these parts.",
}
_OUTSIDE_NUMPY = ("bfloat16", "float16", "float8", "complex", "quint", "qint")
_SHOWN = 4


@dataclass(frozen=True)
class Origin:
    """Where line `line` (from 1) of an emitted file comes from: nodes of a function's reading."""

    line: int
    function: str
    reading: ReadingKind
    nodes: tuple[str, ...]


@dataclass(frozen=True)
class Source:
    """An emitted file, and for each line of its parts the functions and nodes that it computes."""

    text: str
    source_map: tuple[Origin, ...]


def dialect_of(program: Program) -> Dialect:
    """numpy for programs of up to 5 million parameters whose operations and element types it has, else torch."""
    bodies = [reading.body for function in program.functions.values() for reading in function.readings]
    nodes = [node for body in bodies for node in all_nodes(body)]
    count = sum(tensor.numel() for tensor in program.weights.values())
    types = {kind.dtype for kind in program.values.values()} | {str(t.dtype)[6:] for t in program.weights.values()}
    types |= {leaf for node in nodes for leaf in leaves(node) if isinstance(leaf, str)}
    known = all(node.op in NUMPY or node.op in STRUCTURAL for node in nodes)
    plain = not any(kind.startswith(_OUTSIDE_NUMPY) for kind in types)
    return "numpy" if known and plain and count <= NUMPY_LIMIT else "torch"


def program_source(program: Program, dialect: Dialect | None = None) -> Source:
    """The text of `program.py` (in the dialect of `dialect_of` when None).

    Raises:
        CannotRun: the program has an operation that torch does not have, or that does more than compute.
    """
    dialect = dialect or dialect_of(program)
    entry = dataclasses.replace(program[program.entry], scope="")  # the whole sees its weights by their full names
    program = program.with_function(entry)
    bodies: dict[tuple[str, ReadingKind], Block] = {}
    if dialect == "numpy":
        for function in program.functions.values():
            for reading in function.readings:
                types = types_in(program, function, reading.kind)
                bodies[function.name, reading.kind] = with_casts(reading.body, types, program.weights)
    emitter = _Emitter(program, dialect, plan(Likeness(program, parameter_names(program), bodies)))
    return emitter.source()


@dataclass
class _Style:
    """How a function is written where its weights are `w` and functions are called by their defs."""

    emitter: _Emitter
    function: Function
    inner: ReadingKind | None
    callees: dict[str, Callee] = field(default_factory=dict)

    def weight(self, weight: str) -> str:
        """`w["name"]` for the function's own, `weights["name"]` for those of others."""
        below = relative(weight, self.function.scope)
        return f"w[{literal(below).text}]" if below else f"weights[{literal(weight).text}]"

    def callee(self, node: Node) -> Callee:
        """The def that computes the function; its path starts with "/" when it counts from the top."""
        if node.function not in self.callees:
            plan = self.emitter.plan
            part = plan.part(plan.likeness.chosen(node.function, self.inner))
            below, path = path_of_weights(self.function, self.emitter.program[node.function])
            listing = self.emitter.listing(part)
            self.callees[node.function] = Callee(
                part.name,
                part.name,
                (path if below else f"/{path}") if part.takes_weights else None,
                plan.likeness.names[node.function],
                listing.outputs,
            )
        return self.callees[node.function]

    def call(self, callee: Callee, args: Sequence[str], numbered: tuple[int, str] | None) -> tuple[str, list[str]]:
        """The def, and its arguments with its view of the weights put first."""
        if callee.path is None:
            return callee.function, list(args)
        view, path = ("weights", callee.path[1:]) if callee.path.startswith("/") else ("w", callee.path)
        if not path:
            return callee.function, [view, *args]
        steps = [literal(path).text]
        if numbered is not None:
            place, counter = numbered
            parts = path.split(".")
            before, after = ".".join(parts[:place]), ".".join(parts[place + 1 :])
            steps = [*([literal(before).text] if before else []), counter, *([literal(after).text] if after else [])]
        return callee.function, [f"{view}.at({', '.join(steps)})", *args]


@dataclass
class _Emitter:
    """Writes one program; `listings` are the parts written so far."""

    program: Program
    dialect: Dialect
    plan: Plan
    listings: dict[str, Listing] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)
    origins: list[Origin] = field(default_factory=list)

    def listing(self, part: Part) -> Listing:
        """The statements of a part."""
        if part.name not in self.listings:
            variant, likeness = part.variants[0], self.plan.likeness
            function = self.program[variant.function]
            types = types_in(self.program, function, variant.kind)
            place = Place(function.name, function.scope, function.name == self.program.entry, types)
            style = _Style(self, function, variant.inner)
            self.listings[part.name] = write_block(
                likeness.body(variant), likeness.names[function.name], place, style, OWN
            )
        return self.listings[part.name]

    def source(self) -> Source:
        """The whole file."""
        for section in (CHOSEN, EXACT, OTHER):
            parts = [part for part in self.plan.parts if part.section == section]
            if parts:
                self._title(_SECTIONS[section])
            for part in parts:
                self._define(part)
        used = names_in("\n".join(self.lines))
        self._title(f"The primitives that the parts are written in, in {self.dialect}.")
        for text in copied(used, self.dialect):
            self._add(text, 2)
        with_weights = any(part.takes_weights for part in self.plan.parts) or "weights" in used
        if with_weights:
            self._title("Weights.")
            reordered = any(map(memory_order, self.program.weights.values()))
            self._add(frame.loading(self.dialect, reordered), 2)
        self._title("Running: the tables name every part by its place in the network.")
        self._add(frame.calling(self.dialect, with_weights), 2)
        self._add("\n".join(self._tables()), 2)
        self._add(frame.running(self.dialect, kinds_of(self.program)), 2)
        return self._with_head()

    def _with_head(self) -> Source:
        code = "\n".join(self.lines)
        alias = ["", "Array = np.ndarray"] if "Array" in names_in(code) else []
        head = [
            *self._docstring(),
            "",
            "from __future__ import annotations",
            "",
            *frame.imports(code),
            *alias,
        ]
        origins = tuple(
            Origin(origin.line + len(head), origin.function, origin.reading, origin.nodes) for origin in self.origins
        )
        return Source("\n".join([*head, *self.lines]) + "\n", origins)

    # ---- pieces

    def _add(self, text: str, blank: int) -> None:
        self.lines += [""] * blank + text.split("\n")

    def _title(self, text: str) -> None:
        self._add(f"# {'-' * 98}\n# {text}", 2)

    def _define(self, part: Part) -> None:
        listing = self.listing(part)
        parameters = (["w"] if part.takes_weights else []) + list(listing.parameters)
        self._add("\n".join(broken(f"def {part.name}({', '.join(parameters)}):", 0)), 2)
        self._trace(part, len(self.lines), ())
        self.lines += self._describe(part, listing)
        for line in listing.lines:
            for text in broken(line.text, line.indent):
                self.lines.append(text)
                self._trace(part, len(self.lines), line.nodes)

    def _trace(self, part: Part, line: int, nodes: Sequence[str]) -> None:
        """Note for every function that shares a part which of its nodes a line computes."""
        own = _node_ids(self.plan.likeness.body(part.variants[0]))
        places = [own.index(node) for node in nodes]
        seen: set[tuple[str, ReadingKind]] = set()
        for variant in part.variants:
            if (variant.function, variant.kind) in seen:
                continue
            seen.add((variant.function, variant.kind))
            real = set(_node_ids(self.program[variant.function].reading(variant.kind).body))
            theirs = _node_ids(self.plan.likeness.body(variant))
            found = tuple(theirs[place] for place in places if theirs[place] in real)
            self.origins.append(Origin(line, variant.function, variant.kind, found))

    def _describe(self, part: Part, listing: Listing) -> list[str]:
        """The docstring of a part: whose it is, its types, how it was found."""
        names = list(dict.fromkeys(variant.function for variant in part.variants))
        function, values = self.program[names[0]], self.program.values
        title = "the whole" if function.name == self.program.entry else _list(names)
        title = title if function.kind in title or title == "the whole" else f"{title}, {function.kind}"
        inputs = [
            _typed(local, values.get(value)) for local, value in zip(listing.parameters, function.inputs, strict=True)
        ]
        outputs = [str(values.get(value, "?")) for value in function.outputs]
        reading = function.reading(part.variants[0].kind)
        said = []
        if reading.kind != "weights":
            said.append(f"{reading.kind} ({reading.method}), {reading.bits:,.0f} bits")
            said[-1] += (
                f" instead of {self.program.exact_bits(function.name):,.0f}"
                f"{': ' if reading.summary else ''}{reading.summary}"
            )
        said += [self.program.notes.descriptions[n] for n in names[:1] if n in self.program.notes.descriptions]
        types = wrapped([*_commas(inputs), "->", *_commas(outputs)], 96)
        details = [line for text in said for line in wrapped(plain(text).split(" "), 96)]
        if not details and len(types) == 1 and len(title) + len(types[0]) < 84:
            return [f'    """{plain(title)}: {types[0]}"""']
        return [f'    """{plain(title)}.', "", *(f"    {line}" for line in (*types, *details)), '    """']

    def _tables(self) -> Iterator[str]:
        program, likeness = self.program, self.plan.likeness
        entry = program[program.entry]
        yield f'DIALECT = "{self.dialect}"'
        yield f"ENTRY = {literal(entry.name).text}"
        yield from self._signature("INPUTS", entry.inputs)
        yield from self._signature("OUTPUTS", entry.outputs)
        yield "FUNCTIONS = {"
        for function in program.functions.values():
            rows = {reading.kind: Variant(function.name, reading.kind, None) for reading in function.readings}
            rows["weights"] = Variant(function.name, "weights", "weights")
            texts = {str(kind): self._entry(variant) for kind, variant in rows.items()}
            if function is entry and entry.chosen == "weights" and len(kinds_of(program)) > 1:
                texts["chosen"] = self._entry(likeness.chosen(entry.name, None))
            row = ", ".join(f'"{kind}": {text}' for kind, text in texts.items())
            yield from broken(f"{literal(function.name).text}: {{{row}}},", 4, 120)
        yield "}"
        yield '"""Every part by name and reading, from its inputs to a tuple of its outputs; "weights" is exact."""'
        yield "RUNS = {"
        yield f"    None: {self._entry(likeness.chosen(entry.name, None))},"
        for kind in kinds_of(program):
            yield f'    "{kind}": {self._entry(likeness.chosen(entry.name, kind))},'
        yield "}"

    def _signature(self, table: str, values: Iterable[str]) -> Iterator[str]:
        """A table of array names and their types."""
        names: list[str] = []
        for value in values:
            wish = identifier(value) or "value"
            names.append(distinct(f"{wish}_" if wish == "file" else wish, names))
        types = [str(self.program.values.get(value, "float32[...]")) for value in values]
        rows = ", ".join(f"{literal(name).text}: {literal(kind).text}" for name, kind in zip(names, types, strict=True))
        yield from broken(f"{table} = {{{rows}}}", 0, 120)

    def _entry(self, variant: Variant) -> str:
        part = self.plan.part(variant)
        scope = f", {literal(self.program[variant.function].scope).text}" if part.takes_weights else ""
        return f"part({part.name}{scope})"

    def _docstring(self) -> Iterator[str]:
        program, ledger = self.program, self.program.ledger
        needs = "numpy 2" if self.dialect == "numpy" else "torch"
        kinds = "|".join(kinds_of(program))
        yield f'"""{plain(program.source or "A network")}, as a program. Written by pellucid.'
        yield ""
        left = f"Still weights: {ledger.share('weights'):.1%} of {ledger.parameter_count:,} parameters, "
        left += f"{ledger.share('weights', by='units'):.1%} of {ledger.unit_count:,} units. "
        left += f"Code: {ledger.share('code'):.1%}. Words: {ledger.share('words'):.1%}."
        remarks = [f"Note: {plain(remark)}." for remark in program.notes.remarks]
        yield from (line for text in (left, *remarks) for line in wrapped(text.split(" "), 100))
        if program.fingerprint:
            yield f"Network: {plain(program.fingerprint)}"
        yield ""
        yield f"    python program.py inputs.npz outputs.npz [--reading {kinds}]"
        yield "    from program import run"
        yield ""
        yield f"It needs {needs} and safetensors, and weights.safetensors beside this file once a weight is read."
        yield '"""'


def plain(text: str) -> str:
    """Text that can stand in a docstring or comment whatever a file says: one line, no quotes, no backslashes."""
    line = " ".join(text.split()).replace('"', "'").replace("\\", "/")
    return "".join(sign if sign.isprintable() else "?" for sign in line)


def _node_ids(body: Block) -> list[str]:
    return [node.id for node in all_nodes(body)]


def _typed(name: str, kind: ValueType | None) -> str:
    return name if kind is None else f"{name} {kind}"


def _list(names: Sequence[str]) -> str:
    if len(names) <= _SHOWN:
        return ", ".join(names)
    return f"{', '.join(names[:2])} … {names[-1]} ({len(names)} alike)"


def _commas(items: Sequence[str]) -> list[str]:
    return [*(f"{item}," for item in items[:-1]), *items[-1:]]


def wrapped(words: Iterable[str], width: int) -> list[str]:
    """Words in lines of at most `width` characters."""
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) + 1 > width:
            lines.append("")
        lines[-1] += f" {word}" if lines[-1] else word
    return lines
