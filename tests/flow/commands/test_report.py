"""``vta-flow report``: the page of a deployment again."""

from __future__ import annotations

from pathlib import Path

import pytest

from flow.html import page
from tests.flow.fakes import FakeBackend, call


def test_the_page_is_the_same_again(
    fake: type[FakeBackend], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("deploy", "--limit", 5, "--exact-images", 1, "--output", tmp_path) == 0
    written = (tmp_path / "report.html").read_text()
    assert "page       " in capsys.readouterr().out and "digits-resnet18" in written
    (tmp_path / "report.html").unlink()
    assert call("report", tmp_path) == 0
    assert (tmp_path / "report.html").read_text() == written
    assert capsys.readouterr().out.split() == ["page", str(tmp_path / "report.html")]


def test_a_folder_without_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("report", tmp_path) == 2
    assert "report.json: must be a report of vta-flow" in capsys.readouterr().err


def test_a_mistake_of_ours_leaves_the_numbers(
    fake: type[FakeBackend],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(report: object) -> str:
        raise IndexError("list index out of range")

    monkeypatch.setattr(page, "page", fail)
    assert call("deploy", "--limit", 5, "--exact-images", 0, "--output", tmp_path) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "report.html: internal error, got IndexError: list index out of range" in shown
    assert (tmp_path / "internal-error-report.html.txt").is_file()
    assert (tmp_path / "report.json").is_file()


def test_a_page_that_cannot_be_written(
    fake: type[FakeBackend], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.html").mkdir()
    assert call("deploy", "--limit", 5, "--exact-images", 0, "--output", tmp_path) == 2
    shown = capsys.readouterr()
    assert "report.html: must be writable" in shown.err and "digits-resnet18" in shown.out
