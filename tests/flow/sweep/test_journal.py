"""What was measured is there again, whatever happened to the file."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow.sweep.journal import Journal
from vta_config.errors import ArtifactError


def same(value: object) -> object:
    return value


def test_values_are_there_again(tmp_path: Path) -> None:
    path = tmp_path / "out" / "measured.jsonl"
    journal = Journal(path)
    journal.add("a", {"x": 1})
    journal.add("b", {"x": 2})
    journal.add("", {"x": 3})  # of what has no key
    assert path.read_text().count("\n") == 2
    again = Journal(path)
    assert (len(again), again.get("a", same), again.get("b", same)) == (2, {"x": 1}, {"x": 2})
    assert again.get("c", same) is None and again.get("", same) is None
    assert len(Journal(path, fresh=True)) == 0 and not path.read_text()


def test_a_line_that_was_cut_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "measured.jsonl"
    journal = Journal(path)
    journal.add("a", {"x": 1})
    journal.add("b", {"x": 2})
    path.write_bytes(path.read_bytes()[:-5])
    again = Journal(path)
    assert (again.get("a", same), again.get("b", same)) == ({"x": 1}, None)
    again.add("c", {"x": 3})
    third = Journal(path)
    assert (len(third), third.get("c", same)) == (2, {"x": 3})


@pytest.mark.parametrize("text", [b"\x00\xff", b"[]\n", b'{"key": 1}\n', b"[" * 100_000])
def test_other_files_are_as_if_empty(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "measured.jsonl"
    path.write_bytes(text)
    assert len(Journal(path)) == 0


def test_a_value_that_cannot_be_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "m.jsonl")
    journal.add("a", {"x": 1})
    assert journal.get("a", lambda value: value["y"]) is None


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    journal = Journal(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ArtifactError, match="m.jsonl: must be writable, got Is a directory; choos"):
        journal.add("a", {})
