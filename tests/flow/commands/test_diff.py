"""The command ``diff``: tables, JSON, a page, and exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.flow.diff.reports import Report, edited, report, save, variant
from tests.flow.fakes import call


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    def slower(value: Report) -> None:
        variant(value)["latency"]["cycles"] = 2000

    return save(report(), tmp_path / "a"), save(edited(slower), tmp_path / "b")


def test_exit_codes(folders: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    a, b = folders
    assert call("diff", a, a, "--fail-on", "cycles>+1%") == 0
    assert "no difference" in capsys.readouterr().out
    assert call("diff", a, b) == 0
    assert "latency (cycles)" in capsys.readouterr().out
    assert call("diff", a, b, "--fail-on", "sqnr<-1", "--fail-on", "cycles>+1%") == 1
    assert "FAILED  best: latency (cycles): 1,234 → 2,000" in capsys.readouterr().out
    assert call("diff", b, a, "--fail-on", "cycles>+1%") == 0
    assert call("diff", a, b, "--fail-on", "speed<-1") == 2
    assert "--fail-on: must name a quantity" in capsys.readouterr().err
    assert call("diff", a, a / "none") == 2
    assert call("diff", f"{a}:profiled", f"{a}:best", "--layers", "0") == 0


def test_json_and_page(
    folders: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = folders
    page = tmp_path / "pages" / "diff.html"
    assert call("diff", a, b, "--json", "--html", page, "--fail-on", "cycles>+1%") == 1
    value = json.loads(capsys.readouterr().out)
    assert value["identical"] is False and value["failed"][0]["where"] == "best"
    assert value["variants"][0]["quantities"][0]["quantity"] == "cycles"
    assert "2,000" in page.read_text(encoding="utf-8")
    assert call("diff", a, b, "--html", page) == 0
    assert f"written  {page}" in capsys.readouterr().out.replace("\n", "")
