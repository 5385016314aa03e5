"""Reading values of a report: what is there, what is absent, what is of another type."""

from __future__ import annotations

import pytest

from flow.html.values import Missing, Values
from vta_config.errors import ArtifactError


def test_what_is_there() -> None:
    values = Values({
        "t": "a\nb", "n": 3, "f": 0.5, "p": {"n": 1}, "ps": [{"n": 2}], "ns": [1, 2.5],
        "ts": ["x\x1b"], "yes": True,
    })  # fmt: skip
    assert values.text("t") == "a\\nb" and values.texts("ts") == ["x\\x1b"]
    assert (
        values.number("n") == 3 and values.number("f") == 0.5 and values.numbers("ns") == [1, 2.5]
    )
    assert values.part("p").number("n") == 1 and values.parts("ps")[0].number("n") == 2
    assert values.flag("yes") and not values.flag("no")
    assert values.maybe_inner("p", "n") == 1
    assert values.maybe_inner("p", "x") is None and values.maybe_inner("q", "n") is None


@pytest.mark.parametrize("method", ["text", "number", "part", "parts", "numbers", "texts"])
def test_what_is_absent(method: str) -> None:
    for data in ({}, {"x": None}):
        assert getattr(Values(data), f"maybe_{method}")("x") is None
        with pytest.raises(Missing, match=r"^a\[0\]\.x$"):
            getattr(Values(data, "a[0]"), method)("x")


def test_another_type_names_its_place() -> None:
    values = Values({"a": [{"b": {"c": "x"}}]})
    with pytest.raises(ArtifactError, match=r"report.json: a\[0\].b.c: must be a number, got 'x'"):
        values.parts("a")[0].part("b").number("c")
    with pytest.raises(ArtifactError, match="a: must be a list of objects, got 1"):
        Values({"a": [1]}).parts("a")
    with pytest.raises(ArtifactError, match="a: must be within"):
        Values({"a": [10**30]}).numbers("a")
