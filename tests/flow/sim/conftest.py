from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from flow.program.program import Program
from flow.sim.tsim import TSim
from tests.flow.sim.compiled import compiled

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # builder.py and program_file.py


@pytest.fixture(scope="session")
def program() -> Program:
    """Return a program with every kind of layer."""
    return compiled()


@pytest.fixture(scope="session")
def timed(program: Program) -> TSim:
    """Return the same, timed."""
    return TSim(program)


@pytest.fixture(scope="session")
def fake_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
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
            str(HERE / "fake_driver.cc"),
            "-o",
            str(library),
        ],
        check=True,
    )
    return library
