"""A corpus from a text file and a tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path

from pellucid.data.arrays import one_line
from pellucid.data.corpus import Corpus, windows_of
from pellucid.errors import BadInput


def read_corpus(
    path: str | PathLike[str],
    encode: Callable[[str], Sequence[int]],
    pieces: Sequence[str],
    context: int,
    beginning: int | None = None,
    tokens: int | None = None,
) -> Corpus:
    """The text of a file as windows of ids.

    Args:
        path: UTF-8 text.
        encode: from text to ids, without the token that begins a text.
        pieces: the text of each id, in order.
        context: tokens of a window, the beginning one included.
        beginning: the id that begins every window, where the model wants one.
        tokens: how many to take at most, all of them where None; whole windows are taken.

    Raises:
        BadInput: the file is missing, empty or no text, the tokenizer fails or gives ids beyond its vocabulary, or the
            text does not fill one window.
    """
    file = Path(path)
    text = _text(file)
    try:
        ids = list(encode(text))
    except (LookupError, RuntimeError, TypeError, ValueError) as error:
        raise BadInput(f"{file.name}: the tokenizer failed on it ({one_line(error)}); check both") from error
    corpus = windows_of([ids], pieces, context, beginning)
    return corpus if tokens is None else corpus.rows(slice(0, max(1, tokens // context)))


def _text(file: Path) -> str:
    if not file.is_file():
        raise BadInput(f"{file}: {'a folder' if file.is_dir() else 'no such file'}; give the path of a text")
    try:
        raw = file.read_bytes()
    except OSError as error:
        raise BadInput(f"{file}: cannot be read ({error.strerror}); check its permissions") from error
    if not raw.strip():
        raise BadInput(f"{file.name}: empty; give a text of at least one window")
    if b"\0" in raw:
        raise BadInput(f"{file.name}: binary, not text (byte {raw.index(0)} is 0); give UTF-8 text")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(
            f"{file.name}: not UTF-8 text (byte {error.start}); convert it, say with iconv -t UTF-8"
        ) from error
