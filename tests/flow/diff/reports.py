"""Reports to compare: one that the flow writes, and changed copies of it."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from flow.deploy import deploy
from flow.diff.compare import ReportDiff, compare
from flow.diff.read import Side, read_side
from flow.options import Options
from flow.stages import Stages
from tests.flow.fakes import FakeBackend

Report = dict[str, Any]
Edit = Callable[[Report], object]


@cache
def _written() -> str:
    options = Options(limit=20, exact_images=2, variants=("profiled", "best"))
    report, _ = deploy(options, Stages(), factory=FakeBackend)
    return json.dumps(report.to_json())


def report() -> Report:
    """Return a report with float32, profiled and best; one layer each."""
    value: Report = json.loads(_written())
    return value


def variant(value: Mapping[str, Any], name: str = "best") -> Report:
    found: Report = next(v for v in value["variants"] if v["name"] == name)
    return found


def edited(edit: Edit) -> Report:
    value = copy.deepcopy(report())
    edit(value)
    return value


def save(value: Any, folder: Path) -> Path:
    """Write a report into a folder, which is returned."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "report.json").write_text(json.dumps(value), encoding="utf-8")
    return folder


def side(value: Report, folder: Path, name: str = "") -> Side:
    return read_side(f"{save(value, folder)}:{name}" if name else str(save(value, folder)))


def diff_of(edit: Edit, folder: Path) -> ReportDiff:
    """Compare the report with an edited one."""
    return compare(side(report(), folder / "a"), side(edited(edit), folder / "b"))
