"""Stages: in order, with a callback between any two."""

from __future__ import annotations

from relay_passes.stage import Stage, run_stages, upto


def adding(name: str, number: int, applies: bool = True) -> Stage[int]:
    return Stage(
        name=name,
        about="",
        run=lambda x: 10 * x + number,
        result=lambda x: f"<{x}>",
        applies=lambda _: applies,
    )


STAGES = (adding("a", 1), adding("b", 2, applies=False), adding("c", 3))


def test_stages_run_in_order_and_tell_what_they_made() -> None:
    told: list[tuple[str, str | None]] = []
    assert run_stages(STAGES, 0, lambda name, result: told.append((name, result))) == 13
    assert told == [("a", "<1>"), ("b", None), ("c", "<13>")]
    assert run_stages(STAGES, 0) == 13


def test_upto_a_stage() -> None:
    assert [stage.name for stage in upto(STAGES, "b")] == ["a", "b"]
    assert upto(STAGES, None) == upto(STAGES, "elsewhere") == STAGES
