"""Texts: paragraphs, chunks, and what a tokenizer may get wrong."""

import pytest

from pellucid.data.inputs import gather
from pellucid.data.texts import paragraphs
from pellucid.errors import BadInput


class Letters:
    def encode(self, text):
        return [ord(letter) % 32 for letter in text]

    def decode(self, ids):
        return "".join(chr(i + 96) for i in ids)


def rows(inputs):
    return sorted(row.tolist() for batch in inputs for row in batch.args[0])


def write(path, text):
    path.write_bytes(text.encode())
    return path


def test_paragraphs_are_separated_by_blank_lines(tmp_path):
    assert paragraphs(write(tmp_path / "t.txt", "\n\none\ntwo\n \n\nthree\n\n")) == ["one\ntwo", "three"]
    assert paragraphs(write(tmp_path / "t.txt", "one\r\ntwo\r\n\r\nthree")) == ["one\ntwo", "three"]


def test_without_blank_lines_they_are_the_lines(tmp_path):
    assert paragraphs(write(tmp_path / "t.txt", "\ufeffone\ntwo\n")) == ["one", "two"]


def test_chunks_hold_at_most_the_context_and_at_least_two_tokens(tmp_path):
    inputs = gather(write(tmp_path / "t.txt", "abcdefg\nab\nc\n"), tokenizer=Letters(), context=3)
    assert rows(inputs) == [[1, 2], [1, 2, 3], [4, 5, 6]]


def test_a_list_of_strings_is_a_list_of_texts():
    assert rows(gather(["abc", "ab"], tokenizer=Letters())) == [[1, 2], [1, 2, 3]]


def test_reading_stops_at_the_limit_and_says_so(tmp_path):
    inputs = gather(write(tmp_path / "t.txt", "ab\ncd\nef\n"), tokenizer=Letters(), limit=2)
    assert len(inputs) == 2
    assert "stopped at the limit of 2 samples" in inputs.description


def test_a_character_beyond_the_tokenizer_is_named_with_the_file(tmp_path):
    class Strict(Letters):
        def encode(self, text):
            return ["ab".index(letter) for letter in text]

    with pytest.raises(BadInput, match=r"t\.txt: the tokenizer failed"):
        gather(write(tmp_path / "t.txt", "abc"), tokenizer=Strict())


@pytest.mark.parametrize(
    ("content", "options", "cause"),
    [
        (b"\xff\xfehello", {"tokenizer": Letters()}, r"not UTF-8 text \(byte 0\)"),
        (b"a\nb\n", {"tokenizer": Letters()}, "no paragraph has 2 tokens"),
        (b" \n\n", {"tokenizer": Letters()}, "no paragraph has 2 tokens"),
        (b"hello", {}, "text needs a tokenizer"),
        (b"hello", {"tokenizer": Letters(), "context": 1}, "context of 1 tokens is too short"),
        (b"hello", {"tokenizer": Letters(), "vocabulary": 10}, "id 12 is outside the vocabulary of 10 ids"),
    ],
)
def test_refusals(tmp_path, content, options, cause):
    (tmp_path / "t.txt").write_bytes(content)
    with pytest.raises(BadInput, match=cause) as caught:
        gather(tmp_path / "t.txt", **options)
    assert "t.txt" in str(caught.value)


@pytest.mark.parametrize("encode", [lambda self, text: ["a"], lambda self, text: 3, lambda self, text: [1.5]])
def test_a_tokenizer_that_returns_no_ids_is_refused(encode):
    with pytest.raises(BadInput, match="encode has to return integers"):
        gather(["abc"], tokenizer=type("Wrong", (Letters,), {"encode": encode})())
