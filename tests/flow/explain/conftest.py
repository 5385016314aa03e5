"""Networks that several tests explain."""

from __future__ import annotations

import pytest

from flow.explain.explain import Compiled
from tests.flow.explain.networks import bus_bound, compiled, gemm_bound


@pytest.fixture(scope="session")
def on_bus(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """A network whose convolutions wait for their weights."""
    return compiled(bus_bound(), tmp_path_factory.mktemp("bus"))


@pytest.fixture(scope="session")
def on_gemm(tmp_path_factory: pytest.TempPathFactory) -> Compiled:
    """A network whose convolutions keep the GEMM unit busy."""
    return compiled(gemm_bound(), tmp_path_factory.mktemp("gemm"))
