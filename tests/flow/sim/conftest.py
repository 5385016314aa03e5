from __future__ import annotations

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
