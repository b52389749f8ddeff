"""What a tokenizer's ids stand for: the text of each one, and the id that begins every text.

The text of an id is what it adds after another one, because tokenizers drop the space of an id that stands alone.
"""

from __future__ import annotations

from pellucid.errors import BadInput
from pellucid.lift.network import Tokenizer

ANCHOR = "a"


def beginning_of(tokenizer: Tokenizer) -> int | None:
    """The id that the tokenizer puts before every text, None where it puts none.

    Raises:
        BadInput: the tokenizer gives no ids for a letter.
    """
    one, other = (list(tokenizer.encode(letter)) for letter in (ANCHOR, "7"))
    if not one or not other:
        raise BadInput("tokenizer: it gives no ids for a letter; give the tokenizer that the model was trained with")
    return one[0] if len(one) > 1 and len(other) > 1 and one[0] == other[0] else None


def pieces_of(tokenizer: Tokenizer, vocabulary: int) -> tuple[str, ...]:
    """The text of each id from 0 to `vocabulary`; ids that the tokenizer does not know are named "<unused 17>"."""
    ids = list(tokenizer.encode(ANCHOR))
    begin = beginning_of(tokenizer)
    anchor = [id_ for id_ in ids if id_ != begin][:1]
    before = tokenizer.decode(anchor)
    known = min(tokenizer.vocabulary, vocabulary)
    pieces = []
    for id_ in range(known):
        text = tokenizer.decode([*anchor, id_])
        pieces.append(text[len(before) :] if text.startswith(before) else tokenizer.decode([id_]))
    return (*pieces, *(f"<unused {id_}>" for id_ in range(known, vocabulary)))


def encode_bare(tokenizer: Tokenizer, text: str) -> list[int]:
    """The ids of a text without the one that begins it."""
    ids = list(tokenizer.encode(text))
    return ids[1:] if ids and ids[0] == beginning_of(tokenizer) else ids
