"""Bars on stderr, tables on stdout, on terminals of all kinds."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from flow.commands import terminal
from tests.flow.fakes import FakeBackend, call


def test_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    monkeypatch.setattr(terminal, "_Console", lambda stderr=False: console)
    bars = terminal.Terminal()
    progress = bars.open("calibrating")
    progress(1, 3)
    progress(3, 3, "loss 0.5")
    bars.close()
    bars.open("compiling")  # no count: ends full as well
    bars.close()
    bars.close()
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for part in ("calibrating", "3/3", "calibrating, loss 0.5", "compiling"):
        assert part in text


@pytest.mark.parametrize("name", ["COLUMNS", "NO_COLOR", "TERM", "FORCE_COLOR"])
def test_terminals_of_all_kinds(
    name: str, fake: type[FakeBackend], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv(name, {"COLUMNS": "20", "TERM": "dumb"}.get(name, "1"))
    assert call("deploy", "--limit", 2, "--variant", "best", "--output", tmp_path) == 0
    assert "exact      best: 2 tensors of 2 images compared, all equal" in capsys.readouterr().out


def test_narrow_terminal(
    fake: type[FakeBackend], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    console = terminal._Console(highlight=False, markup=False, width=20)
    monkeypatch.setattr(terminal, "output_console", lambda: console)
    assert call("deploy", "--limit", 2, "--variant", "best", "--output", tmp_path) == 0
    assert all(len(line) <= 20 for line in capsys.readouterr().out.splitlines())
    assert (tmp_path / "report.json").is_file()


def test_bars_on_a_terminal_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(5, "Input/output error")

    console = terminal._Console(file=Gone(), force_terminal=True, width=100)
    monkeypatch.setattr(terminal, "_Console", lambda stderr=False: console)
    monkeypatch.setattr("threading.excepthook", lambda args: None)  # of the bars' own thread
    bars = terminal.Terminal()
    progress = bars.open("calibrating")
    progress(1, 3)
    bars.close()


def test_a_file_gets_the_whole_of_a_wide_table(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table("name", "residual multiplier")
    table.add_row("x" * 200, "1")
    terminal.show(table, whole=True)
    whole = capsys.readouterr().out
    assert "x" * 200 in whole and "residual multiplier" in whole
    terminal.show(table)
    assert max(map(len, capsys.readouterr().out.splitlines())) == terminal.PLAIN_COLUMNS
