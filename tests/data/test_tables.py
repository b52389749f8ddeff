"""Parquet tables: columns as arguments, texts, and refusals."""

import numpy as np
import pytest
import torch

from pellucid.data.inputs import gather
from pellucid.errors import BadInput

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


class Letters:
    def encode(self, text):
        return [ord(letter) - ord("a") for letter in text]

    def decode(self, ids):
        return "".join(chr(i + ord("a")) for i in ids)


def write(path, **columns):
    parquet.write_table(pyarrow.table(columns), path, row_group_size=3)
    return path


def test_columns_of_numbers_are_one_float_matrix(tmp_path):
    inputs = gather(write(tmp_path / "i.parquet", a=[1, 2, 3, 4], b=[0.5, 1.5, 2.5, 3.5], c=[True, False] * 2))
    (batch,) = inputs.batches()
    assert inputs.arguments == (0,)
    assert batch.args[0].dtype == torch.float32
    assert batch.args[0].tolist() == [[1, 0.5, 1], [2, 1.5, 0], [3, 2.5, 1], [4, 3.5, 0]]


def test_a_list_column_is_the_first_argument_with_an_axis(tmp_path):
    (batch,) = gather(write(tmp_path / "i.parquet", ids=[[1, 2], [3, 4], [5, 6]])).batches()
    assert batch.args[0].tolist() == [[1, 2], [3, 4], [5, 6]]
    assert batch.args[0].dtype == torch.int64


def test_nested_and_fixed_lists_become_further_axes(tmp_path):
    images = [[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], [[0.0, 0.0, 0.0], [7.0, 8.0, 9.0]]]
    (batch,) = gather(write(tmp_path / "i.parquet", x=images)).batches()
    assert batch.args[0].tolist() == images
    fixed = pyarrow.FixedSizeListArray.from_arrays(pyarrow.array(range(6)), 2)
    (batch,) = gather(write(tmp_path / "j.parquet", x=fixed)).batches()
    assert batch.args[0].tolist() == [[0, 1], [2, 3], [4, 5]]


def test_lists_of_unequal_length_are_grouped_and_never_padded(tmp_path):
    given = [[1, 2], [3, 4, 5], [6, 7], [8, 9, 10], [11, 12]]
    inputs = gather(write(tmp_path / "i.parquet", ids=given))
    rows = [row.tolist() for batch in inputs for row in batch.args[0]]
    assert sorted(rows) == sorted(given)
    assert len(list(inputs)) == 2


def test_several_list_columns_are_arguments_by_name_row_by_row(tmp_path):
    path = write(tmp_path / "i.parquet", ids=[[1, 2], [3], [4, 5]], weight=[0.5, 1.5, 2.5], pos=[[0], [1], [2]])
    found = {}
    for batch in gather(path):
        for i in range(len(batch)):
            found[tuple(batch.kwargs["ids"][i].tolist())] = (batch.kwargs["weight"][i], batch.kwargs["pos"][i].tolist())
    assert found == {(1, 2): (0.5, [0]), (3,): (1.5, [1]), (4, 5): (2.5, [2])}


def test_a_text_column_is_encoded(tmp_path):
    inputs = gather(write(tmp_path / "i.parquet", text=["abc", "de"]), tokenizer=Letters())
    assert sorted(row.tolist() for batch in inputs for row in batch.args[0]) == [[0, 1, 2], [3, 4]]


def test_rows_beyond_the_limit_are_drawn_from_the_whole_table(tmp_path):
    inputs = gather(write(tmp_path / "i.parquet", a=np.arange(5000)), limit=50, seed=1)
    values = next(inputs.batches()).args[0][:, 0]
    assert len(inputs) == 50
    assert len(set(values.tolist())) == 50
    assert values.max() > 4000
    assert "50 of 5,000 drawn with seed 1" in inputs.description


@pytest.mark.parametrize(
    ("columns", "cause"),
    [
        ({"a": [1.0, None, 2.0]}, "column 'a': no value in row 1"),
        ({"a": [*range(2000), None]}, "column 'a': no value in row 2000"),
        ({"a": [[1], None]}, "column 'a': no value in row 1"),
        ({"a": [[1], [None]]}, "column 'a': a list holds a null"),
        ({"a": [[[1], [2]], [[3, 4]]]}, "column 'a': inner lists differ in length"),
        ({"a": ["x"]}, "column 'a': dtype"),
        ({"a": [1.0, float("nan")]}, "column 'a': NaN"),
        ({"a": [[1], [2]], "b": ["x", "y"]}, "argument 'b': dtype"),
        ({"text": ["hello"]}, "text needs a tokenizer"),
        ({"a": pyarrow.array([], pyarrow.float32())}, "no rows"),
        ({"a": [[], []]}, "column 'a'|argument 0: "),
    ],
)
def test_refusals(tmp_path, columns, cause):
    with pytest.raises(BadInput, match=cause) as caught:
        gather(write(tmp_path / "i.parquet", **columns))
    assert str(caught.value).startswith("i.parquet")


def test_a_broken_file_is_one_clear_line(tmp_path):
    path = write(tmp_path / "i.parquet", a=list(range(100)))
    content = path.read_bytes()
    for broken in (content[:-9], content[: len(content) // 2], b"PAR1" + bytes(50) + b"PAR1"):
        path.write_bytes(broken)
        with pytest.raises(BadInput, match=r"not a whole parquet file|cannot be read") as caught:
            gather(path)
        assert "\n" not in str(caught.value)
