"""Numbers are kept by what they depend on, and measured again where they cannot be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flow.bits.kept import Kept, numbers_fit


def test_measured_once(tmp_path: Path) -> None:
    path, calls = tmp_path / "deep" / "kept.json", []

    def measure() -> dict[str, int]:
        calls.append(1)
        return {"a": 1, "b": 2}

    fits = numbers_fit(["a", "b"])
    for _ in range(2):
        assert Kept(path).get("key", measure, fits) == {"a": 1, "b": 2}
    assert len(calls) == 1
    Kept(path).get("other", measure, fits)
    assert Kept(path).get("key", measure, fits) and len(calls) == 2


@pytest.mark.parametrize("text", ["", "[1]", '{"key": 3}', '{"key": {"a": -1}}', "{", "\xff"])
def test_what_cannot_be_used_is_measured_again(tmp_path: Path, text: str) -> None:
    path = tmp_path / "kept.json"
    path.write_bytes(text.encode("latin-1"))
    assert Kept(path).get("key", lambda: {"a": 5}, numbers_fit(["a"])) == {"a": 5}
    assert Kept(path).get("key", lambda: {"a": 6}, numbers_fit(["a"])) == {"a": 5}


def test_without_a_file_nothing_is_kept(tmp_path: Path) -> None:
    assert [Kept(None).get("k", lambda v=v: {"a": v}, numbers_fit(["a"])) for v in (1, 2)] == [
        {"a": 1}, {"a": 2},
    ]  # fmt: skip
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert Kept(blocked / "kept.json").get("k", lambda: {"a": 1}, numbers_fit(["a"])) == {"a": 1}


@pytest.mark.parametrize(
    ("value", "fits"),
    [({"a": 0}, True), ({"a": 0.5}, True), ({}, False), ({"a": True}, False), ({"a": "1"}, False),
     ({"a": float("nan")}, False), ({"a": float("inf")}, False), ({"a": 1, "b": 1}, False),
     (None, False)],
)  # fmt: skip
def test_numbers_that_fit(value: Any, fits: bool) -> None:
    assert numbers_fit(["a"])(value) is fits
