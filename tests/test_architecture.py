"""The tree is the architecture: imports point one way, files and rooms make no circles.

A room is a folder; for its neighbours it is one node, whatever file of it is meant. The graph is
drawn from every import of a module, those for type checking and inside functions included.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping
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
#: Which rooms of a layer the files of each room may import, besides their own. Files that stand
#: beside the rooms may be imported wherever that makes no circle.
ROOMS: dict[str, dict[str, set[str]]] = {
    "relay_passes": {
        "operators": set(),
        "stock_relay": {"operators"},
        "float_model": {"operators"},
        "host": {"operators"},
        "calibration": {"operators", "host"},
        "scales": {"operators", "calibration"},
        "rounding": {"operators", "host", "calibration", "scales"},
        "integers": {"operators", "scales", "rounding"},
        "learning": {"operators", "host", "float_model", "scales", "rounding", "integers"},
        "selection": {"operators", "host", "float_model", "calibration", "scales", "rounding"},
        "partition": {"operators", "host", "integers"},
    },
    "flow": {
        "system": set(),
        "machines": set(),
        "frontend": set(),
        "data": {"frontend", "system"},
        "program": {"system"},
        "sim": {"program", "system"},
        "compiler": {"program", "sim", "system"},
        "artefacts": {"data", "frontend", "program", "sim", "system"},
        "results": {"data", "program", "sim", "system"},
        "bits": {"results", "sim", "system"},
        "explain": {"compiler", "frontend", "machines", "program", "results", "sim", "system"},
        "export": {"results"},
        "diff": {"html", "results"},
        "sweep": {
            "cache",
            "compiler",
            "data",
            "html",
            "machines",
            "parallel",
            "results",
            "sim",
            "system",
        },
        "cache": {"data", "program", "results", "system"},
        "parallel": {"cache", "system"},
        "html": {"results", "sim", "system"},
        "commands": {
            "artefacts",
            "bits",
            "cache",
            "data",
            "diff",
            "explain",
            "export",
            "html",
            "machines",
            "parallel",
            "program",
            "results",
            "sweep",
            "system",
        },
    },
}
MODULES = sorted(path for layer in ALLOWED for path in (ROOT / layer).rglob("*.py"))

Graph = Mapping[str, set[str]]


def name_of(path: Path) -> str:
    """Return a module's dotted name; a package's ends with ``__init__``."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def imported(tree: ast.AST, modules: Collection[str]) -> set[str]:
    """Return those of `modules` that a module imports anywhere in its body."""
    known = set(modules)
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            rooms = {name for name in inside if f"{name}.__init__" in known}
            names |= (inside & known) | rooms
            if inside - known - rooms:  # a name that the module or package itself has
                names.add(str(node.module))
    return {name if name in known else f"{name}.__init__" for name in names} & known


def circles(graph: Graph) -> list[list[str]]:
    """Return the groups of nodes that reach each other, smallest first (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph.get(node, ())):
            if other not in index:
                visit(other)
            if other in stack:
                low[node] = min(low[node], low[other])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return sorted(found, key=len)


def rooms_of(graph: Graph, folder: str) -> dict[str, set[str]]:
    """Return the graph of what lies in `folder`: its files and its rooms, each room one node."""
    start = f"{folder}." if folder else ""

    def node(name: str) -> str:
        return start + name[len(start) :].split(".")[0]

    result: dict[str, set[str]] = {}
    for name, others in graph.items():
        if name.startswith(start):
            inside = {node(other) for other in others if other.startswith(start)}
            result.setdefault(node(name), set()).update(inside - {node(name)})
    return result


def arrows_upward(graph: Graph, allowed: Mapping[str, set[str]], folder: str = "") -> list[str]:
    """Return the arrows, as "module -> module", from a room to one that it must not import."""
    start = f"{folder}." if folder else ""

    def room(name: str) -> str:
        return name[len(start) :].split(".")[0] if name.startswith(start) else ""

    return [
        f"{name} -> {other}"
        for name, others in sorted(graph.items())
        for other in sorted(others)
        if room(name) in allowed
        and room(other) in allowed
        and room(other) not in {room(name), *allowed[room(name)]}
    ]


@pytest.fixture(scope="module")
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in MODULES}


@pytest.fixture(scope="module")
def graph(trees: dict[Path, ast.Module]) -> dict[str, set[str]]:
    names = {name_of(path) for path in MODULES}
    return {name_of(path): imported(tree, names) for path, tree in trees.items()}


def folders(graph: Graph) -> list[str]:
    return sorted({name.rsplit(".", n)[0] for name in graph for n in range(1, name.count(".") + 1)})


def test_layers_point_one_way(graph: dict[str, set[str]]) -> None:
    assert not arrows_upward(graph, ALLOWED)


def test_files_make_no_circle(graph: dict[str, set[str]]) -> None:
    assert not circles(graph)


def test_rooms_make_no_circle(graph: dict[str, set[str]]) -> None:
    assert not {f: c for f in ["", *folders(graph)] if (c := circles(rooms_of(graph, f)))}


@pytest.mark.parametrize("layer", ROOMS)
def test_rooms_point_one_way(graph: dict[str, set[str]], layer: str) -> None:
    assert not arrows_upward(graph, ROOMS[layer], layer)
    rooms = {name.split(".")[1] for name in graph if name.startswith(f"{layer}.")}
    there = {name for name in rooms if f"{layer}.{name}.__init__" in graph}
    assert set(ROOMS[layer]) == there  # each has a row


def test_the_map_has_every_room() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"^  \| `(\w+)/` \|", page, re.MULTILINE)
    assert sorted(named) == sorted(room for rooms in ROOMS.values() for room in rooms)


def test_what_the_graph_is_drawn_from() -> None:
    names = ["a.__init__", "a.one", "a.two", "b.__init__", "b.three"]
    cases = {
        "import a.one": {"a.one"},
        "import a": {"a.__init__"},
        "from a import one": {"a.one"},
        "from a import one, NAME": {"a.one", "a.__init__"},
        "from a.one import NAME as N": {"a.one"},
        "import b.three as t": {"b.three"},
        "import os": set(),
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from a.two import T": {"a.two"},
        "def f():\n    import a.two": {"a.two"},
    }
    for text, expected in cases.items():
        assert imported(ast.parse(text), names) == expected, text
    with pytest.raises(AssertionError, match="line 1: relative import"):
        imported(ast.parse("from . import one"), names)


def test_circles_are_found_and_named() -> None:
    line: Graph = {"a": {"b"}, "b": {"c"}, "c": set()}
    assert circles(line) == []
    assert circles({**line, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]
    assert circles({"a": {"b"}, "b": {"a"}, "c": {"d"}, "d": {"e"}, "e": {"c", "a"}}) == [
        ["a", "b"],
        ["c", "d", "e"],
    ]


def test_a_circle_of_rooms_need_not_be_one_of_files() -> None:
    graph: Graph = {"f.x.a": {"f.y.a"}, "f.y.a": set(), "f.y.b": {"f.x.b"}, "f.x.b": {"f.z"}}
    assert circles(graph) == []
    assert circles(rooms_of(graph, "f")) == [["f.x", "f.y"]]
    assert circles(rooms_of(graph, "")) == circles(rooms_of(graph, "f.x")) == []


def test_upward_arrows_are_found_and_named() -> None:
    graph: Graph = {"l.x.a": {"l.y.a", "l.top"}, "l.y.a": set(), "l.top": {"l.x.a"}, "m.x": set()}
    assert arrows_upward(graph, {"x": {"y"}, "y": set()}, "l") == []
    assert arrows_upward(graph, {"x": set(), "y": {"x"}}, "l") == ["l.x.a -> l.y.a"]
    assert arrows_upward({"l.a": {"m.b"}}, {"l": set(), "m": {"l"}}) == ["l.a -> m.b"]


def test_nothing_of_the_tests_is_imported(trees: dict[Path, ast.Module]) -> None:
    names = {name_of(path) for path in (ROOT / "tests").rglob("*.py")}
    assert not {str(path): found for path, t in trees.items() if (found := imported(t, names))}


def test_nothing_prints_below_the_command_line(trees: dict[Path, ast.Module]) -> None:
    prints = [
        f"{path}:{node.lineno}"
        for path, tree in trees.items()
        if path.parent.name != "scripts" and path.name not in ("cli.py", "__main__.py")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
        if node.func.id == "print"
    ]
    assert not prints


def test_every_module_says_what_it_is(trees: dict[Path, ast.Module]) -> None:
    assert not [str(path) for path, tree in trees.items() if not ast.get_docstring(tree)]


def test_files_are_short() -> None:
    lengths = {name_of(path): len(path.read_text().splitlines()) for path in MODULES}
    assert not {name: lines for name, lines in lengths.items() if lines > 600}


# ---- mirrors -------------------------------------------------------------------------------------
#: Modules with code whose tests lie elsewhere, and why.
NO_MIRROR: dict[str, str] = {
    "flow.__main__": "a process of its own: test_cli.py starts it",
}


def has_code(tree: ast.Module) -> bool:
    """Tell whether a module has a function with a body, besides what a Protocol only names."""
    protocols = {
        id(function)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)
        for function in node.body
    }
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return any(id(function) not in protocols for function in functions)


def mirror_of(path: Path) -> Path:
    """Return the test file of a module."""
    relative = path.relative_to(ROOT)
    return ROOT / "tests" / relative.parent / f"test_{relative.name}"


def test_every_module_has_its_test_file(trees: dict[Path, ast.Module]) -> None:
    missing = {
        name_of(path)
        for path, tree in trees.items()
        if has_code(tree)
        and not (mirror_of(path).is_file() and "\ndef test_" in mirror_of(path).read_text())
    }
    assert missing == set(NO_MIRROR)


def test_what_code_is() -> None:
    protocol = "class P(Protocol):\n    def f(self) -> int:\n        ..."
    for text, expected in (
        ("X = 1", False),
        ("from a import b", False),
        ("class C:\n    x: int", False),
        (protocol, False),
        ("class C:\n    def f(self): ...", True),
        (f"{protocol}\ndef g(): ...", True),
    ):
        assert has_code(ast.parse(text)) is expected, text
    assert mirror_of(ROOT / "flow" / "sim" / "fsim.py") == ROOT / "tests/flow/sim/test_fsim.py"
