"""The language of labels: decision lists over slots, as typed values and as text a person would write.

    2.1 where current in {" the", " a"} and previous in <verbs>; 0.4 where current in {" the"}; 0 otherwise

says 2.1 at every position where both conditions hold, else 0.4 where the token is " the", else 0. Rules that share
conditions may be put in brackets, the last of them being the shared conditions alone:

    where current in {" the", " a"} (2.1 where previous in <verbs>; 0.4 otherwise); 0 otherwise

Grammar:

    label     := rule (";" rule)* ; the last rule, and no other, is "NUMBER otherwise"
    rule      := NUMBER "where" conditions | "where" conditions "(" label ")"
    conditions := condition ("and" condition)*
    condition := SLOT ("in" | "not in") ("{" item ("," item)* "}" | cluster)
    item      := token | cluster | CLASS (in slots of classes) | token token | CLASS token (in slots of pairs)
    token     := "nothing" | STRING | STRING "#" ID
    cluster   := "<" NAME ">"

Where the vocabulary holds a text more than once, the text alone means the last of these tokens (byte tokens come
first), and the others are told by id. Strings escape quotes, backslashes and whatever cannot be printed as `\\u{HEX}`.
Reading is in `parser`; nothing that is read is ever evaluated.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Int

from pellucid.errors import BadInput
from pellucid.words.labels.lexicon import Lexicon
from pellucid.words.labels.slots import SLOTS, Given, Slot, find_slot

NUMBER_BITS = 16.0
"""Price of a constant of three digits: sign, digits, exponent."""

DEEPEST = 100
"""How deep brackets may stand in each other."""

CITED_BITS = 10.0
"""Price of saying which head, or which unit."""


@dataclass(frozen=True)
class Condition:
    """Whether what a slot shows is in a set.

    Attributes:
        slot: the name of the slot.
        codes: the codes listed one by one, ascending; see `slots` for what they are.
        clusters: named clusters of tokens that are listed too.
        within: false for "not in".
    """

    slot: str
    codes: tuple[int, ...] = ()
    clusters: tuple[str, ...] = ()
    within: bool = True

    @property
    def size(self) -> int:
        """How many things a reader finds in the set: codes and names."""
        return len(self.codes) + len(self.clusters)

    def members(self, lexicon: Lexicon) -> Int[np.ndarray, " members"]:
        """All codes of the set, those of its clusters included, ascending."""
        every = [np.array(self.codes, dtype=np.int64)]
        every += [np.array(lexicon.clusters[name], dtype=np.int64) for name in self.clusters]
        members: Int[np.ndarray, " members"] = np.unique(np.concatenate(every))
        return members


@dataclass(frozen=True)
class Rule:
    """A value and the conditions under which it holds; none for the last rule of a label."""

    value: float
    conditions: tuple[Condition, ...] = ()


@dataclass(frozen=True)
class Label:
    """What a unit does at each position, as a list of rules: the first whose conditions hold gives the value.

    Raises:
        BadInput: a rule names a slot, code or cluster that is not there, a value is not finite, or the last rule, and
            only the last, is not without conditions.
    """

    rules: tuple[Rule, ...]
    lexicon: Lexicon = field(repr=False, compare=False)

    def __post_init__(self) -> None:
        if not self.rules or [bool(rule.conditions) for rule in self.rules] != [True] * (len(self.rules) - 1) + [False]:
            raise BadInput("label: the last rule, and only the last, has no conditions; end it with 'NUMBER otherwise'")
        for rule in self.rules:
            if not math.isfinite(rule.value):
                raise BadInput(f"label: the value {rule.value} is not finite; give a number")
            for condition in rule.conditions:
                _check(condition, self.lexicon)

    def __str__(self) -> str:
        """The label as text; `parse_label` reads it back."""
        return _rules_text(self.rules, 0, 0, self.lexicon)

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of the slots it looks at, ascending."""
        return tuple(sorted({condition.slot for rule in self.rules for condition in rule.conditions}))

    @property
    def sets(self) -> tuple[int, ...]:
        """How many things each set lists, a set that several rules share once."""
        distinct = {condition: None for rule in self.rules for condition in rule.conditions}
        return tuple(condition.size for condition in distinct)

    @property
    def bits(self) -> float:
        """Its length in a code.

        Numbers of rules, conditions and members are Elias gamma coded. A rule says how many conditions it shares with
        the rule before from the first on, then each other condition: slot, in or not in, which clusters, and which of
        all subsets of its size the listed codes are. A value costs 16 bits.
        """
        total = _gamma(len(self.rules))
        before: tuple[Condition, ...] = ()
        for rule in self.rules:
            shared = common_prefix(before, rule.conditions)
            total += NUMBER_BITS + _gamma(shared + 1) + _gamma(len(rule.conditions) - shared + 1)
            total += sum(_condition_bits(condition, self.lexicon) for condition in rule.conditions[shared:])
            before = rule.conditions
        return total

    def predict(
        self, ids: Int[np.ndarray, "windows context"], given: Given | None = None
    ) -> Float[np.ndarray, "windows context"]:
        """What it says at every position of windows of token ids; `given` is what it cites that the text does not tell.

        Raises:
            BadInput: ids outside the vocabulary, or a cited head or unit of which nothing is given.
        """
        from pellucid.words.labels.labelset import LabelSet

        said: Float[np.ndarray, "windows context"] = LabelSet("", (self,), self.lexicon).predict(ids, given)[0]
        return said


def common_prefix(one: Sequence[Condition], other: Sequence[Condition]) -> int:
    """How many conditions two lists share from the first on."""
    count = 0
    for left, right in zip(one, other, strict=False):
        if left != right:
            break
        count += 1
    return count


# ---- checks and bits


def _codes_of(slot: Slot, lexicon: Lexicon) -> int:
    """How many codes a slot has."""
    tokens = lexicon.nothing + 1
    if slot.kind == "pair":
        return (len(slot.classes) or tokens) * tokens
    return tokens if slot.kind == "token" else len(slot.classes)


def _check(condition: Condition, lexicon: Lexicon) -> None:
    slot = find_slot(condition.slot)
    if condition.size == 0:
        raise BadInput(f"label: the set of {slot.name!r} is empty; list what it may show")
    if list(condition.codes) != sorted(set(condition.codes)) or len(set(condition.clusters)) < len(condition.clusters):
        raise BadInput(f"label: the set of {slot.name!r} does not ascend or repeats itself; name each member once")
    if condition.codes and not 0 <= condition.codes[0] <= condition.codes[-1] < _codes_of(slot, lexicon):
        raise BadInput(
            f"label: the set of {slot.name!r} has a code outside the vocabulary; use the model's own tokenizer"
        )
    if condition.clusters and slot.kind != "token":
        raise BadInput(f"label: {slot.name!r} shows no single tokens, so that clusters cannot be in its set")
    for name in condition.clusters:
        if name not in lexicon.clusters:
            raise BadInput(f"label: no cluster is called {name!r}; give the lexicon that the label was made with")


def _gamma(number: int) -> float:
    """Length of the Elias gamma code of a positive number."""
    return 2 * math.floor(math.log2(number)) + 1


def _condition_bits(condition: Condition, lexicon: Lexicon) -> float:
    slot = find_slot(condition.slot)
    total = math.log2(len(SLOTS) + 1) + 1 + (0.0 if slot.name in SLOTS else CITED_BITS)
    if slot.kind == "token":
        total += _gamma(len(condition.clusters) + 1)
        total += len(condition.clusters) * math.log2(max(len(lexicon.clusters), 1))
    return total + _gamma(len(condition.codes) + 1) + _log_binomial(_codes_of(slot, lexicon), len(condition.codes))


def _log_binomial(all_: int, chosen: int) -> float:
    """Base-2 logarithm of the number of subsets of a size."""
    return (math.lgamma(all_ + 1) - math.lgamma(chosen + 1) - math.lgamma(all_ - chosen + 1)) / math.log(2)


# ---- text


def number_text(value: float) -> str:
    """The shortest text of a number in single precision."""
    return str(np.float32(value)).removesuffix(".0")


def _rules_text(rules: Sequence[Rule], depth: int, brackets: int, lexicon: Lexicon) -> str:
    """Rules that share their first `depth` conditions, without these, inside so many brackets."""
    parts, start = [], 0
    while start < len(rules):
        size = _alike(rules[start:], depth) if brackets < DEEPEST else 1
        shared = rules[start + size - 1].conditions
        own = " and ".join(condition_text(condition, lexicon) for condition in shared[depth:])
        if size > 1:
            inner = _rules_text(rules[start : start + size], len(shared), brackets + 1, lexicon)
            parts.append(f"where {own} ({inner})")
        else:
            parts.append(f"{number_text(rules[start].value)} {f'where {own}' if own else 'otherwise'}")
        start += size
    return "; ".join(parts)


def _alike(rules: Sequence[Rule], depth: int) -> int:
    """How many rules, from the first on, go in one bracket: the last of them has no more than what all share."""
    prefix = rules[0].conditions
    for count, rule in enumerate(rules[1:], 2):
        prefix = prefix[: common_prefix(prefix, rule.conditions)]
        if len(prefix) <= depth or len(prefix) == len(rules[0].conditions):
            break
        if len(rule.conditions) == len(prefix):
            return count
    return 1


def condition_text(condition: Condition, lexicon: Lexicon) -> str:
    """A condition as text."""
    slot = find_slot(condition.slot)
    items = [f"<{_escaped(name, '<>')}>" for name in condition.clusters]
    items += [_code_text(code, slot, lexicon) for code in condition.codes]
    single = len(items) == 1 and condition.clusters
    return (
        f"{slot.name} {'in' if condition.within else 'not in'} {items[0] if single else '{' + ', '.join(items) + '}'}"
    )


def _code_text(code: int, slot: Slot, lexicon: Lexicon) -> str:
    if slot.kind == "class":
        return slot.classes[code]
    if slot.kind == "token":
        return token_text(code, lexicon)
    first, second = divmod(code, lexicon.nothing + 1)
    return f"{slot.classes[first] if slot.classes else token_text(first, lexicon)} {token_text(second, lexicon)}"


def token_text(token: int, lexicon: Lexicon) -> str:
    """A token as labels write it, with its id where a later token has the same text."""
    if token == lexicon.nothing:
        return "nothing"
    piece = lexicon.pieces[token]
    quoted = f'"{_escaped(piece, chr(34))}"'
    return quoted if lexicon.ids_of[piece][-1] == token else f"{quoted}#{token}"


def _escaped(text: str, marks: str) -> str:
    """Text with marks, backslashes and what cannot be printed written as escapes."""

    def letters() -> Iterator[str]:
        for letter in text:
            if letter == "\n":
                yield "\\n"
            elif letter in '\\"' and letter in marks + "\\":
                yield "\\" + letter
            elif letter in marks or not letter.isprintable():
                yield f"\\u{{{ord(letter):X}}}"
            else:
                yield letter

    return "".join(letters())
