"""What nobody expected: a sentence, and a file with the traceback."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from flow.system import tracebacks
from flow.system.tracebacks import InternalError, explain, internal_error, reason_of, worst
from vta_config.errors import ConfigError, HazardError


def raised(error: Exception) -> Exception:
    """Return an error with a traceback."""
    try:
        raise error
    except Exception as caught:
        return caught


def test_a_sentence_and_a_file(tmp_path: Path) -> None:
    told = internal_error(raised(ValueError("\n  bad value  \nmore")), tmp_path, where="best/a b")
    path = tmp_path / "internal-error-best-a-b.txt"
    assert told.reason == (
        f"internal error, got ValueError: bad value; please report it with {path}, "
        "which has the traceback"
    )
    assert str(told) == f"best/a b: {told.reason}" and told.text == ""
    text = path.read_text(encoding="utf-8")
    assert "Traceback (most recent call last):" in text and "in raised" in text
    assert "python 3" in text and "numpy " in text and "called as [" in text


def test_words_of_an_error_are_cut(tmp_path: Path) -> None:
    told = internal_error(ValueError("x" * 1000), tmp_path)
    assert f"got ValueError: {'x' * 200}; please" in str(told)
    assert "got KeyError; please" in str(internal_error(KeyError(), tmp_path))


def test_without_any_folder_the_error_carries_the_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    told = internal_error(raised(ValueError("v")), tmp_path / "file")
    assert str(told).endswith("; please report it with this traceback:")
    assert "in raised" in told.text and told.text.endswith("ValueError: v\n")


def test_what_is_said_of_a_variant(tmp_path: Path) -> None:
    told = internal_error(ValueError("v"), tmp_path, where="best")
    assert reason_of(told) == told.reason and not reason_of(told).startswith("best")
    assert reason_of(ConfigError("x", "must be y")) == "x: must be y"


def test_packages_that_are_not_installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tracebacks, "_PACKAGES", ("no-such-package",))
    internal_error(ValueError(), tmp_path)
    assert "no-such-package, not installed" in (tmp_path / "internal-error.txt").read_text()


def test_whose_mistake_it_is(tmp_path: Path) -> None:
    theirs, ours = ConfigError("x", "must be y"), HazardError("insn 3", "must wait")
    assert explain(theirs, tmp_path) is theirs and list(tmp_path.iterdir()) == []
    told = explain(ours, tmp_path, where="best")
    assert isinstance(told, InternalError) and "best: internal error, got HazardError" in str(told)
    assert worst([theirs, told]) is told and worst([theirs]) is theirs
