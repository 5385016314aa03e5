"""Programs of an artefact on the cycle model."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from flow.artefacts.load import load_artefact
from flow.artefacts.timing import timed_programs, write_traces
from vta_config.errors import ConfigError


def test_each_program(one: Path, two: Path, tmp_path: Path) -> None:
    (timed,) = timed_programs(load_artefact(one))
    assert timed.cycles > 0 and timed.profile == "chisel"
    (older,) = timed_programs(load_artefact(one), "chisel-simple")
    assert older.profile == "chisel-simple" and older.cycles > timed.cycles
    assert write_traces([timed], tmp_path / "a.json") == [tmp_path / "a.json"]
    assert json.loads((tmp_path / "a.json").read_text())["traceEvents"]
    both = timed_programs(load_artefact(two))
    names = [path.name for path in write_traces(both, tmp_path / "b.json")]
    assert names == ["b.vta_0.json", "b.vta_1.json"]


def test_none(one: Path) -> None:
    with pytest.raises(ConfigError, match="artefact: must have a program, got none; no layer of t"):
        timed_programs(replace(load_artefact(one), programs=()))
