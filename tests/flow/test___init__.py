"""The stable names: loaded when asked for, the same as in their modules, typed and documented."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import flow

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", flow.__all__)
def test_a_name_is_the_one_of_its_module(name: str) -> None:
    found = getattr(flow, name)
    assert found.__module__ == flow._HOMES[name] and found.__name__ == name
    assert name in dir(flow) and found.__doc__


def test_other_names_are_none() -> None:
    with pytest.raises(AttributeError, match=r"^module 'flow' has no attribute 'nothing'$"):
        flow.nothing  # noqa: B018  # asking is the test


def test_the_package_loads_nothing_by_itself() -> None:
    code = "import sys, flow; print(sorted({'tvm', 'numpy', 'onnx'} & set(sys.modules)))"
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_the_stub_has_the_same_names_of_the_same_modules() -> None:
    tree = ast.parse((ROOT / "flow" / "__init__.pyi").read_text())
    imported = {
        alias.name: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
        if alias.asname == alias.name  # else a stub does not export it
    }
    assert imported == flow._HOMES


def test_the_page_has_every_name() -> None:
    page = (ROOT / "docs" / "api.md").read_text(encoding="utf-8")
    first = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert sorted(first) == sorted([*flow.__all__, "flow.deploy.deploy"])
