"""flow.results.schema: dataclasses as JSON Schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from jsonschema import Draft202012Validator

from flow.results.schema import OMITTED, descriptions, schema_of


@dataclass(frozen=True, kw_only=True)
class Part:
    """A part.

    Parameters
    ----------
    name : str
        How it is called,
        in two lines.
    low, high : int
        Its ends.
    """

    name: str
    low: int
    high: int


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """Writes its JSON itself."""

    words: int


@dataclass(frozen=True, kw_only=True)
class Whole:
    """A whole.

    More about it.
    """

    parts: tuple[Part, ...]
    best: Part | None
    share: float | None
    pair: tuple[int, int]
    kind: Literal["a", "b"]
    by_name: Mapping[str, float]
    where: Path
    names: frozenset[str]
    anything: Any
    hardware: Hardware
    secret: str
    extra: int = field(default=0, metadata=OMITTED)


GOOD: dict[str, Any] = {
    "parts": [{"name": "x", "low": 0, "high": 1}],
    "best": None,
    "share": 0.5,
    "pair": [1, 2],
    "kind": "a",
    "by_name": {"x": 1.5},
    "where": "a/b",
    "names": ["n"],
    "anything": [None],
    "hardware": {"WORDS": 3},
}


def made(*, closed: bool = False) -> dict[str, Any]:
    special = {Hardware: lambda: {"type": "object", "properties": {"WORDS": {"type": "integer"}}}}
    return schema_of(
        Whole, title="whole", special=special, without={Whole: ("secret",)}, closed=closed
    )


def test_a_good_value_is_valid_and_others_are_not() -> None:
    for closed in (False, True):
        schema = made(closed=closed)
        Draft202012Validator.check_schema(schema)
        check = Draft202012Validator(schema)
        assert check.is_valid(GOOD) and check.is_valid(GOOD | {"extra": 1, "share": None})
        assert check.is_valid(GOOD | {"best": GOOD["parts"][0], "share": 1})
        bad: list[dict[str, Any]] = [
            {"parts": [{"name": "x", "low": 0}]},
            {"parts": None},
            {"best": 3},
            {"share": "1"},
            {"pair": [1, 2, 3]},
            {"pair": [1, 0.5]},
            {"kind": "c"},
            {"by_name": {"x": "y"}},
            {"where": None},
            {"names": [1]},
            {"extra": "1"},
            {"hardware": {"WORDS": "3"}},
        ]
        for change in bad:
            assert not check.is_valid(GOOD | change), change
        for key in GOOD:
            assert not check.is_valid({k: v for k, v in GOOD.items() if k != key}), key
        assert check.is_valid(GOOD | {"new": 1}) is not closed
        inside = {**GOOD["parts"][0], "new": 1}
        assert check.is_valid(GOOD | {"parts": [inside]}) is not closed
        assert check.is_valid(GOOD | {"hardware": {"WORDS": 3, "NEW": 1}}) is not closed


def test_docstrings_describe_the_fields() -> None:
    assert descriptions(Part) == {
        "name": "How it is called, in two lines.", "low": "Its ends.", "high": "Its ends.",
    }  # fmt: skip
    part = made()["$defs"]["Part"]
    assert part["description"] == "A part."
    assert part["properties"]["low"] == {"type": "integer", "description": "Its ends."}
    assert "secret" not in made()["$defs"]["Whole"]["properties"]


def test_types_that_json_lacks_are_refused() -> None:
    @dataclass
    class Odd:
        value: complex

    with pytest.raises(TypeError, match="complex'>: must be a type that JSON has; add a case to"):
        schema_of(Odd, title="odd")
