"""Which cores or computers work goes together, or is refused in a sentence."""

from __future__ import annotations

import pytest

from flow.worker_request import ALONE, Workers
from vta_config.errors import ConfigError


def test_several() -> None:
    assert not ALONE.several and not Workers(jobs=1).several
    assert Workers(jobs=2).several and Workers(cluster="tcp://host:8786").several


def test_workers_that_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match="^--jobs: must be 1 or more, got 0; give --jobs 2$"):
        Workers(jobs=0)
    with pytest.raises(
        ConfigError,
        match="^--jobs, --cluster: must not be given together, got 2 and tcp://a:1; a cluster has "
        "as many workers as were started: leave out --jobs$",
    ):
        Workers(jobs=2, cluster="tcp://a:1")
