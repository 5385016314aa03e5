"""flow.system.json_values: what JSON has in place of dataclasses, paths and sets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from flow.system.json_values import json_value


@dataclass(frozen=True)
class Inner:
    path: Path
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class Outer:
    inner: Inner | None
    names: frozenset[str]
    table: dict[str, tuple[int, int]]
    secret: str = "x"


def test_nested_values_become_json() -> None:
    value = Outer(Inner(Path("a") / "b", (1, 2)), frozenset({"q", "p"}), {"c": (4, 8)})
    found = json_value(value, without={"secret"})
    assert found == {
        "inner": {"path": "a/b", "sizes": [1, 2]},
        "names": ["p", "q"],
        "table": {"c": [4, 8]},
    }
    assert json.loads(json.dumps(found)) == found
    assert json_value(Outer(None, frozenset(), {}))["secret"] == "x"
    assert [json_value(x) for x in (None, True, 3, 0.5, "s")] == [None, True, 3, 0.5, "s"]


def test_other_types_are_refused() -> None:
    with pytest.raises(TypeError, match="complex: must be a value of JSON; add a case to json_v"):
        json_value([1j])
