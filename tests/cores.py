"""Share the cores between the workers of pytest-xdist; imported before anything that counts them.

Each worker would start a BLAS thread a core, and these wait for each other by spinning: with two
workers on two cores, a Cholesky decomposition takes ten times as long.
"""

from __future__ import annotations

import os
from collections.abc import Sequence


def cores_of(worker: int, workers: int, cores: Sequence[int]) -> set[int]:
    """Return the cores of one worker of several: every `workers`-th, at least one."""
    return set(cores[worker::workers]) or {cores[worker % len(cores)]}


def share_cores() -> None:
    """Keep this process on its own cores if it is one of several workers."""
    workers = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if workers > 1 and hasattr(os, "sched_setaffinity"):
        worker = int(os.environ["PYTEST_XDIST_WORKER"].removeprefix("gw"))
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores_of(worker, workers, cores))
