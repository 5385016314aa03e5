"""The map on this machine: order, progress, errors."""

from __future__ import annotations

import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from flow.parallel.run import check_cluster, check_workers, run_all
from flow.parallel.shared import Shared
from flow.worker_request import ALONE
from tests.flow.parallel.work import ROOT, dies, fails, late_first, scaled, square, started
from vta_config.errors import CapacityError, ClusterError, ConfigError

WAYS: list[dict[str, Any]] = [{}, {"jobs": 1}, {"jobs": 2, "threads": True}, {"jobs": 2}]
ways = pytest.mark.parametrize("how", WAYS, ids=str)


@ways
def test_results_are_in_the_order_of_the_items(how: dict[str, Any]) -> None:
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int, note: str = "", /) -> None:
        told.append((done, total))

    assert list(run_all(square, range(7), progress=progress, **how)) == [0, 1, 4, 9, 16, 25, 36]
    assert told == [(done, 7) for done in range(1, 8)]
    assert list(run_all(late_first, range(5), **how)) == [0, 1, 2, 3, 4]
    assert list(run_all(square, [], **how)) == []


@ways
def test_shared_values_are_arguments(how: dict[str, Any]) -> None:
    big = Shared.of(bytes(1 << 20))
    found = run_all(partial(scaled, big, 5, sign=-1), [1, 2, 3], **how)
    assert list(found) == [-(k * (1 << 20) + 5) for k in (1, 2, 3)]


def test_a_worker_starts_a_shared_value_once() -> None:
    found = list(run_all(partial(started, Shared.of("once" * 5)), range(8), jobs=2))
    assert {count for _, count in found} == {1}


@ways
def test_the_error_of_an_item_comes_out(how: dict[str, Any]) -> None:
    with pytest.raises(CapacityError, match=r"^item \d: must fit, got \d; take less$"):
        list(run_all(fails, range(3), **how))


def test_a_worker_process_that_is_killed() -> None:
    with pytest.raises(
        ClusterError,
        match="^--jobs: must have worker processes that live as long as the work, got .*; "
        "if memory ran out, give fewer jobs; what was done is kept unless --no-cache$",
    ):
        list(run_all(dies, range(6), jobs=2))


@pytest.mark.slow
def test_worker_processes_end_with_their_parent(tmp_path: Path) -> None:
    code = (
        "from functools import partial; from pathlib import Path; import sys\n"
        "from flow.parallel.run import run_all; from tests.flow.parallel.work import sleeps\n"
        "list(run_all(partial(sleeps, Path(sys.argv[1])), range(4), jobs=2))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT)
    until = time.monotonic() + 60
    while len(workers := list(tmp_path.glob("*.pid"))) < 2 and time.monotonic() < until:
        time.sleep(0.1)
    parent.kill()
    parent.wait()
    until = time.monotonic() + 30
    alive = {int(path.stem) for path in workers}
    assert len(alive) == 2
    while alive and time.monotonic() < until:
        time.sleep(0.2)
        alive = {number for number in alive if _runs(number)}
    assert not alive


def _runs(number: int) -> bool:
    """Tell whether a process works: one that has ended may wait for whoever started it."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except OSError:
        return False


def test_workers_that_contradict_each_other() -> None:
    with pytest.raises(ConfigError, match="^--jobs, --cluster: must not be given together, got 2"):
        run_all(square, [1], jobs=2, cluster="tcp://a:1")
    with pytest.raises(ConfigError, match="^--jobs: must be 1 or more, got 0; give --jobs 2$"):
        check_workers(0, None)
    check_cluster(ALONE)
