"""The tree is the architecture: imports point upward only, and errors are ours."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: Which of our packages each layer may import, besides itself.
ALLOWED: dict[str, set[str]] = {
    "vta_config": set(),
    "relay_passes": {"vta_config"},
    "flow": {"vta_config", "relay_passes"},
    "scripts": {"vta_config", "relay_passes", "flow"},
}
MODULES = sorted(path for layer in ALLOWED for path in (ROOT / layer).rglob("*.py"))
IDS = [str(path.relative_to(ROOT)) for path in MODULES]


def imported_packages(tree: ast.AST) -> set[str]:
    """Return the top-level packages that a module imports anywhere in its body."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            names.add(node.module or "")
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_imports_point_upward(path: Path) -> None:
    layer = path.relative_to(ROOT).parts[0]
    ours = imported_packages(ast.parse(path.read_text(encoding="utf-8"))) & {*ALLOWED, "tests"}
    assert ours - {layer} <= ALLOWED[layer]


@pytest.mark.parametrize("path", MODULES, ids=IDS)
def test_nothing_prints_below_the_command_line(path: Path) -> None:
    if path.parent.name == "scripts" or path.name in ("cli.py", "__main__.py"):
        return
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    lines = [c.lineno for c in calls if isinstance(c.func, ast.Name) and c.func.id == "print"]
    assert not lines


def test_every_package_says_what_it_is() -> None:
    for path in MODULES:
        assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), path


def test_files_are_short() -> None:
    long = {
        i: n for i, p in zip(IDS, MODULES, strict=True) if (n := len(p.open().readlines())) > 600
    }
    assert not long
