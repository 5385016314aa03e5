"""What tests of the command line share."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from flow import deploy as jobs
from flow import session
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
