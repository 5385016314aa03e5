"""How many threads matrix products get: no more than there are cores for them.

A BLAS starts a thread for each core of the machine, also where a container or an affinity leaves
the process a few of them, and its threads wait for each other by spinning: eight threads on two
cores take ten times as long as one, and two on two cores twice the time of both where another
process needs one of them. So the flow gives BLAS one thread, which also gives the same bits on
every machine, and shares work between cores in larger pieces.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from threadpoolctl import threadpool_limits

_CGROUPS: Final = Path("/sys/fs/cgroup")


def available_cores(cgroups: Path = _CGROUPS) -> int:
    """Return how many cores this process may use: its affinity, cut to its container's quota.

    Parameters
    ----------
    cgroups : Path
        Where Linux shows control groups (docs.kernel.org, admin-guide/cgroup-v2: ``cpu.max``;
        scheduler/sched-bwc for version 1). Other systems have none: all cores.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(cores or 1, math.ceil(_quota(cgroups))))


def _quota(cgroups: Path) -> float:
    """Return the cores that a control group grants; a great number when it does not say."""
    unlimited = float(1 << 20)
    try:
        if (cgroups / "cpu.max").is_file():
            quota, period = (cgroups / "cpu.max").read_text().split()
        else:
            quota, period = (
                (cgroups / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")
            )
        share = float(quota) / float(period)
    except (OSError, ValueError, ZeroDivisionError):  # absent, or "max"
        return unlimited
    return share if share > 0 else unlimited


@contextlib.contextmanager
def blas_threads(count: int) -> Iterator[None]:
    """Give every BLAS at most `count` threads inside the ``with`` block."""
    with threadpool_limits(limits=count, user_api="blas"):
        yield
