"""What a program may cost."""

from __future__ import annotations

from argparse import ArgumentParser

import pytest

from flow.system.limits import DEFAULT, ORACLE, UNLIMITED, Limits, add_options, of_options


@pytest.mark.parametrize(
    ("limits", "steps", "memory_bytes", "allowed"),
    [
        (Limits(max_steps=5, max_bytes=7), 5, 7, True),
        (Limits(max_steps=5, max_bytes=7), 6, 0, False),
        (Limits(max_steps=5, max_bytes=7), 0, 8, False),
        (Limits(max_steps=-1, max_bytes=7), 1 << 62, 7, True),
        (Limits(max_steps=5, max_bytes=-1), 5, 1 << 62, True),
        (UNLIMITED, 1 << 62, 1 << 62, True),
        (DEFAULT, 1 << 28, 1 << 29, True),
        (DEFAULT, (1 << 28) + 1, 0, False),
        (ORACLE, (1 << 23) + 1, 0, False),
    ],
)
def test_costs_up_to_the_limit_are_allowed(
    limits: Limits, steps: int, memory_bytes: int, allowed: bool
) -> None:
    assert limits.allows(steps=steps, memory_bytes=memory_bytes) is allowed


def test_options() -> None:
    parser = ArgumentParser()
    add_options(parser)
    assert of_options(parser.parse_args([])) == DEFAULT
    parsed = of_options(parser.parse_args(["--max-steps", "5", "--max-bytes", "7"]))
    assert parsed == Limits(max_steps=5, max_bytes=7)
    parser = ArgumentParser()
    add_options(parser, steps=False)
    assert of_options(parser.parse_args(["--max-bytes", "7"])) == Limits(max_bytes=7)


@pytest.mark.parametrize("text", ["-1", "1.5", "many", "9" * 5000])
def test_options_that_are_no_numbers(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = ArgumentParser()
    add_options(parser)
    with pytest.raises(SystemExit):
        parser.parse_args([f"--max-steps={text}"])
    assert "must be an integer of at most 18 digits, got" in capsys.readouterr().err
