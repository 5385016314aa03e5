"""What is installed: every import is declared, types are published, the sdist is whole."""

from __future__ import annotations

import ast
import re
import sys
import tarfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 reads TOML")

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = ("flow", "relay_passes", "vta_config")
#: Distributions that are called otherwise than what they bring.
DISTRIBUTIONS = {
    "tvm": "apache-tvm",
    "tvm_ffi": "apache-tvm-ffi",
    "PIL": "pillow",
    "google": "protobuf",
}


def requirements(names: list[str]) -> dict[str, Requirement]:
    return {r.name: r for r in map(Requirement, names)}


def imported(package: str) -> set[str]:
    """Return the top-level modules that the files of `package` import anywhere."""
    found = set()
    for path in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
                found.add(node.module.split(".")[0])
    return found


def test_every_import_is_declared_and_every_dependency_imported() -> None:
    needed = requirements(PROJECT["project"]["dependencies"])
    extras = PROJECT["project"]["optional-dependencies"]
    optional = requirements([*extras["torch"], *extras["plot"], *extras["dask"]])
    modules = set().union(*(imported(package) for package in PACKAGES))
    third_party = modules - set(sys.stdlib_module_names) - set(PACKAGES)
    distributions = {DISTRIBUTIONS.get(name, name) for name in third_party}
    assert distributions <= {*needed, *optional}
    assert {*needed} <= distributions


def test_tvm_is_capped_at_the_minor_release_that_the_tests_have_seen() -> None:
    import tvm

    needed = requirements(PROJECT["project"]["dependencies"])
    release = ".".join(tvm.__version__.split(".")[:2])
    major, minor = map(int, release.split("."))
    specifier = needed["apache-tvm"].specifier
    assert specifier.contains(f"{release}.0") and not specifier.contains(f"{major}.{minor + 1}.0")


@pytest.mark.parametrize("package", PACKAGES)
def test_types_are_published(package: str) -> None:
    assert (ROOT / package / "py.typed").is_file()


def test_the_core_needs_nothing_of_pythons() -> None:
    """So that one wheel serves all versions of Python."""
    assert PROJECT["tool"]["scikit-build"]["wheel"]["py-api"] == "py3"
    core = [*(ROOT / "flow" / "sim" / "core").glob("*.cc"), *(ROOT / "flow/sim/core").glob("*.h")]
    assert core
    assert not [path.name for path in core if re.search(r"Python\.h|pybind11", path.read_text())]


@pytest.mark.slow
def test_the_sdist_has_all_that_a_build_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = pytest.importorskip("scikit_build_core.build", reason="the extra dev has it")
    monkeypatch.chdir(ROOT)
    with tarfile.open(tmp_path / build.build_sdist(str(tmp_path))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    sources = {"CMakeLists.txt", "pyproject.toml", "LICENSE", "README.md", "flow/py.typed"}
    sources |= {
        f"flow/data/{n}" for n in ("digits.npz", "DIGITS_LICENSE.txt", "gauges_resnet18.onnx")
    }
    sources |= {str(p.relative_to(ROOT)) for p in (ROOT / "flow").rglob("*.cc")}
    assert sources <= names
    assert not [name for name in names if name.endswith((".so", ".pyc"))]
    assert not [name for name in names if name.startswith(("build/", "out/", ".venv"))]
