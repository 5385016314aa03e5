"""Bars on stderr, tables on stdout, on terminals of all kinds."""

from __future__ import annotations

import io
import json
import re
import time
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


def test_lines_where_there_is_no_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "FIRST_LINE_S", 0.05)
    told = terminal.Terminal()
    progress = told.open("calibrating\x1b")
    progress(3, 125)
    first = wait_for("3 of 125", capsys)
    assert re.fullmatch(r"calibrating\\x1b: 3 of 125, \d+\.\d s\n", first)
    progress(1000, 0, "loss 0.5")
    assert ": 1,000, loss 0.5, " in wait_for("1,000", capsys)
    told.close()
    assert re.fullmatch(r"calibrating\\x1b: done, \d+\.\d s\n", wait_for("done", capsys))


def wait_for(part: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return the line with `part`, which comes after a moment."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        for line in capsys.readouterr().err.splitlines(keepends=True):
            if part in line:
                return line
        time.sleep(0.01)
    raise AssertionError(part)


def test_short_stages_have_no_line_and_verbose_ones_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for verbosity, wanted in ((0, ""), (-1, ""), (1, r"outer: done, 0\.\d s\n")):
        told = terminal.Terminal(verbosity)
        told.open("outer")(1, 2)
        told.close()
        assert re.fullmatch(wanted, capsys.readouterr().err), verbosity


def test_stages_inside_stages_end_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    told = terminal.Terminal(1)
    told.open("outer")
    told.open("inner")
    told.close()
    told.close()
    told.close()
    shown = [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()]
    assert shown == ["inner", "outer"]


def test_quiet_has_no_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    monkeypatch.setattr(terminal, "_Console", lambda stderr=False: console)
    bars = terminal.Terminal(-1)
    bars.open("calibrating")(1, 3)
    bars.close()
    assert isinstance(console.file, io.StringIO) and console.file.getvalue() == ""


def test_json_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    terminal.show_json({"name": "é\udcff", "x": [1, None]})
    assert json.loads(capsys.readouterr().out)["x"] == [1, None]
    with pytest.raises(ValueError, match="Out of range float values are not JSON compliant"):
        terminal.show_json(float("nan"))


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
