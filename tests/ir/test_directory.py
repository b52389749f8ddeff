import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pellucid.errors import BadInput
from pellucid.ir.directory import is_ours, replaced, staged, writing

MARK = '{"format": "pellucid program", "version": 1}'


def _fill(directory: Path, word: str) -> None:
    with staged(directory) as place:
        (place / "program.json").write_text(MARK)
        (place / "program.py").write_text(word)


def test_a_new_directory_appears_whole(tmp_path):
    with staged(tmp_path / "a" / "b") as place:
        (place / "program.json").write_text(MARK)
        assert not (tmp_path / "a" / "b").exists()
    assert is_ours(tmp_path / "a" / "b")
    assert [entry.name for entry in (tmp_path / "a").iterdir()] == ["b"]


def test_an_old_result_is_replaced_and_what_the_user_put_there_is_kept(tmp_path):
    _fill(tmp_path / "out", "old")
    (tmp_path / "out" / "verdicts.json").write_text("stale")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    (tmp_path / "out" / "more").mkdir()
    (tmp_path / "out" / "more" / "x").write_text("mine too")
    _fill(tmp_path / "out", "new")
    assert (tmp_path / "out" / "program.py").read_text() == "new"
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert (tmp_path / "out" / "more" / "x").read_text() == "mine too"
    assert not (tmp_path / "out" / "verdicts.json").exists()
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt()])
def test_a_failed_run_leaves_the_old_result_or_nothing(tmp_path, error):
    for target in (tmp_path / "parent" / "fresh", tmp_path / "out"):
        with pytest.raises(type(error)), staged(target) as place:  # noqa: PT012
            (place / "program.json").write_text("half")
            raise error
        assert list(tmp_path.iterdir()) == []
    _fill(tmp_path / "out", "old")
    with pytest.raises(type(error)), staged(tmp_path / "out") as place:  # noqa: PT012
        (place / "program.json").write_text("half")
        raise error
    assert (tmp_path / "out" / "program.py").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_failed_swap_puts_the_old_result_back(tmp_path, monkeypatch):
    _fill(tmp_path / "out", "old")
    rename, calls = os.rename, []

    def failing(source, target):
        calls.append(source)
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", failing)
    with pytest.raises(BadInput, match="disk is full"):
        _fill(tmp_path / "out", "new")
    assert (tmp_path / "out" / "program.py").read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_foreign_directories_and_files_are_refused_untouched(tmp_path):
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "thesis.tex").write_text("x")
    (tmp_path / "file").write_text("x")
    (tmp_path / "alike").mkdir()
    (tmp_path / "alike" / "program.json").write_text('{"name": "another tool"}')
    for name in ("theirs", "file", "alike", "file/under"):
        for enter in (staged, writing):
            with pytest.raises(BadInput, match="choose another"), enter(tmp_path / name):
                pass
    assert (tmp_path / "theirs" / "thesis.tex").read_text() == "x"
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["alike", "file", "theirs"]


def test_an_empty_directory_is_fine(tmp_path):
    (tmp_path / "out").mkdir()
    _fill(tmp_path / "out", "x")
    assert is_ours(tmp_path / "out")


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "disk is full"),
        (errno.EDQUOT, "quota"),
        (errno.EACCES, "permission"),
        (errno.EROFS, "permission"),
    ],
)
def test_errors_of_the_disk_are_told_with_a_remedy(tmp_path, number, message):
    with pytest.raises(BadInput, match=message) as caught, staged(tmp_path / "out"):
        raise OSError(number, os.strerror(number))
    assert str(tmp_path / "out") in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_other_errors_pass_through(tmp_path):
    with pytest.raises(FileNotFoundError), staged(tmp_path / "out") as place:
        (place / "absent").read_text()


def _killed_run(directory: Path, then: str) -> None:
    code = (
        "import os, sys; from pathlib import Path; from pellucid.ir import directory\n"
        f"target = Path({str(directory)!r})\n{then}\nos.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9


def test_what_killed_runs_left_is_cleaned_up(tmp_path):
    _fill(tmp_path / "out", "old")
    _killed_run(tmp_path / "out", "context = directory.staged(target)\ncontext.__enter__()")
    assert len(list(tmp_path.iterdir())) == 2
    assert (tmp_path / "out" / "program.py").read_text() == "old"
    _fill(tmp_path / "out", "new")
    assert [entry.name for entry in tmp_path.iterdir()] == ["out"]


def test_a_run_killed_amid_the_swap_loses_nothing(tmp_path):
    _fill(tmp_path / "out", "old")
    _killed_run(tmp_path / "out", "os.rename(target, directory._sibling(target, 'old'))")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="x"), staged(tmp_path / "out"):
        raise ValueError("x")
    assert (tmp_path / "out" / "program.py").read_text() == "old"


def test_temporaries_of_a_live_process_are_left_alone(tmp_path):
    import pellucid.ir.directory as module

    other = tmp_path / module._sibling(tmp_path / "out", "new").name.replace(str(os.getpid()), str(os.getppid()))
    other.mkdir()
    _fill(tmp_path / "out", "x")
    assert other.exists()


def test_a_replaced_file_is_whole_or_old(tmp_path):
    path = tmp_path / "verdicts.json"
    path.write_text("old")
    with pytest.raises(ValueError, match="x"), replaced(path) as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise ValueError("x")
    assert path.read_text() == "old"
    with replaced(path) as temporary:
        temporary.write_text("new")
    assert path.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["verdicts.json"]
