"""What two processes compare before they work together."""

from __future__ import annotations

import numpy
import pytest

import flow
from flow.cache import keys
from flow.parallel.facts import difference, facts


def test_facts() -> None:
    found = facts(("numpy", "not-a-library"))
    assert found["vta-flow"] == flow.__version__
    assert keys.sources().startswith(found["vta-flow's sources"])
    assert (found["numpy"], found["not-a-library"]) == (numpy.__version__, "none")


def test_facts_of_a_version_without_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(keys, "sources")
    found = facts(())
    assert (found["vta-flow"], found["vta-flow's sources"]) == (flow.__version__, "none")


def test_difference() -> None:
    own = {"a": "1", "b": "2"}
    assert difference(own, {"b": "2", "a": "1", "c": "3"}) is None
    assert difference(own, {"a": "1", "b": "3"}) == ("b", "3")
    assert difference(own, {"b": "2"}) == ("a", "none")
