"""Fixtures that several test modules share."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.cores import share_cores
from vta_config import VTAConfig, preset_names

share_cores()

# A run in the background has them ignored, and so would have what the tests start and interrupt.
for _number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(_number) == signal.SIG_IGN:
        handler = signal.default_int_handler if _number == signal.SIGINT else signal.SIG_DFL
        signal.signal(_number, handler)

settings.register_profile(
    "default", deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile("ci", settings.get_profile("default"), derandomize=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.hookimpl(optionalhook=True)  # without pytest-xdist there is none
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each worker tests in a row, which share fixtures; who is done takes from others."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.getoption("dist") == "load" else None


@pytest.fixture(scope="session", autouse=True)
def cache_of_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep tests away from the user's cache folder."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        yield folder


@pytest.fixture(autouse=True)
def cache_of_a_test(
    cache_of_tests: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Give each test a cache folder of its own: what one breaks must not hide in another's."""
    own = sha256(request.node.nodeid.encode()).hexdigest()[:16]
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache_of_tests / own))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder with evaluation data and golden files; skip where there is none."""
    folder = os.environ.get("VTA_FLOW_DATA", "")
    if not folder:
        pytest.skip("VTA_FLOW_DATA is not set: no evaluation data")
    if not Path(folder).is_dir():
        pytest.skip(f"VTA_FLOW_DATA is not a folder: {folder}")
    return Path(folder)


@pytest.fixture(params=preset_names())
def preset(request: pytest.FixtureRequest) -> VTAConfig:
    """Return each preset machine in turn."""
    return VTAConfig.load(request.param)


@pytest.fixture(scope="session")
def default_config() -> VTAConfig:
    """Return the stock machine."""
    return VTAConfig.load("default")
