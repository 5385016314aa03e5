"""What tests of the command line share."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from flow import deploy as jobs
from flow import session
from flow.commands import terminal
from flow.results.estimate import Estimate
from flow.results.explanation import Explanation
from flow.results.generate import schema
from flow.results.report import Report
from flow.results.sweep_document import SweepFields
from tests.flow.fakes import FakeBackend


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeBackend]:
    """Put the fake backend where the command line takes the real one from."""

    class Backend(FakeBackend):
        pass

    for function in (jobs.deploy, session.open_session):
        defaults = {**(function.__kwdefaults__ or {}), "factory": Backend}
        monkeypatch.setattr(function, "__kwdefaults__", defaults)
    return Backend


@pytest.fixture(autouse=True)
def _no_lines_on_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep stages that take long by chance from telling so."""
    monkeypatch.setattr(terminal, "FIRST_LINE_S", 1e6)


@cache
def validator(name: str) -> Draft202012Validator:
    """Return what checks a file: no key may be missing, and none may be unknown."""
    return Draft202012Validator(schema(name, closed=True))


def checked(to_json: Callable[[Any], dict[str, Any]], name: str) -> Callable[[Any], dict[str, Any]]:
    """Return `to_json` with a check of what it returns."""

    def wrapped(self: Any) -> dict[str, Any]:
        value = to_json(self)
        validator(name).validate(json.loads(json.dumps(value)))
        return value

    return wrapped


@pytest.fixture(autouse=True, scope="session")
def _every_report_is_valid() -> Iterator[None]:
    """Check every report, estimate, sweep and explanation of a test against its JSON Schema."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Report, "to_json", checked(Report.to_json, "report.schema.json"))
        explained = checked(Explanation.to_json, "explain.schema.json")
        patch.setattr(Explanation, "to_json", explained)
        patch.setattr(Estimate, "to_json", checked(Estimate.to_json, "estimate.schema.json"))
        patch.setattr(SweepFields, "to_json", checked(SweepFields.to_json, "machines.schema.json"))
        yield


@pytest.fixture(scope="session")
def fake_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a driver library for tests: a small VTA of its own."""
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("needs a C++ compiler")
    library = tmp_path_factory.mktemp("driver") / "libfake_driver.so"
    subprocess.run(
        [
            compiler,
            "-std=c++17",
            "-O1",
            "-shared",
            "-fPIC",
            str(Path(__file__).parent / "sim" / "fake_driver.cc"),
            "-o",
            str(library),
        ],
        check=True,
    )
    return library


@pytest.fixture(scope="session")
def one(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a network that one program is; not to be written to."""
    from tests.flow.small_artefacts import save_one  # brings in TVM

    return save_one(tmp_path_factory.mktemp("one"))


@pytest.fixture(scope="session")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a network with an operator of the host between two programs."""
    from tests.flow.small_artefacts import save_two

    return save_two(tmp_path_factory.mktemp("two"))
