"""flow.results.labelled_lines: labels stand alone on the left."""

from __future__ import annotations

import io

from rich.console import Console

from flow.results.labelled_lines import LabelledLines


def shown(width: int, *lines: str) -> list[str]:
    console = Console(file=io.StringIO(), width=width, force_terminal=False)
    console.print(LabelledLines(lines, 11))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue().splitlines()


def test_what_does_not_fit_goes_on_behind_the_label() -> None:
    lines = shown(
        40, "latency    105,000 cycles, 1.05 ms per image (tsim)\n           more", "b  c"
    )
    assert lines == [
        "latency    105,000 cycles, 1.05 ms per",
        "           image (tsim)",
        "           more",
        "b  c",
    ]
    assert shown(80, "machine    x-y  (z)") == ["machine    x-y  (z)"]


def test_narrow_terminals_and_long_words() -> None:
    assert shown(20, "on host    " + "x" * 40) == ["on host    xxxxxxxxx", "x" * 20, "x" * 11]
    assert max(map(len, shown(30, "on host    " + "x" * 40))) <= 30
