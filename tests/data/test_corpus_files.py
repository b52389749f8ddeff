"""Corpora from files: what is no text is refused in one line."""

import numpy as np
import pytest

from pellucid.data.corpus_files import read_corpus
from pellucid.errors import BadInput

PIECES = tuple(map(chr, range(128)))


def encode(text):
    return [ord(letter) for letter in text]


def test_a_text_becomes_windows(tmp_path):
    (tmp_path / "a.txt").write_text("abcdefgh")
    corpus = read_corpus(tmp_path / "a.txt", encode, PIECES, 4, beginning=1)
    assert ["".join(PIECES[i] for i in row) for row in corpus.ids] == ["\1abc", "\1def"]
    assert len(read_corpus(tmp_path / "a.txt", encode, PIECES, 2, tokens=7)) == 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"abc\0def", "byte 3 is 0"),
        (bytes(np.random.default_rng(0).integers(128, 256, 100, np.uint8)), "not UTF-8"),
        (b"abc", "do not fill one window of 8"),
        ("abcdefgé".encode(), "outside the vocabulary of 128"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, content, says):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(BadInput, match=says) as caught:
        read_corpus(tmp_path / "a.txt", encode, PIECES, 8)
    assert "\n" not in str(caught.value)


def test_a_missing_file_a_folder_and_a_failing_tokenizer(tmp_path):
    with pytest.raises(BadInput, match="no such file"):
        read_corpus(tmp_path / "b.txt", encode, PIECES, 8)
    with pytest.raises(BadInput, match="a folder"):
        read_corpus(tmp_path, encode, PIECES, 8)
    (tmp_path / "a.txt").write_text("xy")
    with pytest.raises(BadInput, match="tokenizer failed"):
        read_corpus(tmp_path / "a.txt", {}.__getitem__, PIECES, 8)
