"""Stages are measured, and shown where there is a display."""

from __future__ import annotations

import itertools

import pytest

from flow.stages import Silent, Stages
from tests.flow.fakes import Recorder


def test_without_a_display_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with Stages()("a") as progress:
        progress(1, 0)
    assert Silent().open("text")(1, 2) is None
    Silent().close()
    assert capsys.readouterr() == ("", "")


def test_a_stage_that_is_running_has_no_time_yet() -> None:
    stages = Stages()
    with stages("outer"), stages("inner"):
        assert stages.seconds == {"outer": 0.0, "inner": 0.0}
    assert stages.seconds["outer"] >= stages.seconds["inner"] > 0


def test_stages_add_up_and_end_on_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = itertools.count(step=1.5)
    work = itertools.count(step=0.5)
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    monkeypatch.setattr("time.process_time", lambda: next(work))
    display = Recorder()
    stages = Stages(display)
    for name in ("a", "b", "a"):
        with stages(name) as progress:
            progress(1, 2)
    with pytest.raises(ZeroDivisionError), stages("b", "text"):
        raise ZeroDivisionError
    assert stages.seconds == {"a": 3.0, "b": 3.0}
    assert stages.cpu_seconds == {"a": 1.0, "b": 1.0}
    assert display.texts == ["a", "b", "a", "text"] and display.open_bars == 0
