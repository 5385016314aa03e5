"""Functions that workers run, and a cluster of processes to run them on."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flow.parallel.shared import Shared
from vta_config.errors import CapacityError

ROOT = Path(__file__).parent.parent.parent.parent


def square(item: int) -> int:
    return item * item


def late_first(item: int) -> int:
    time.sleep(0.2 if item == 0 else 0.0)
    return item


def scaled(shared: Shared, offset: int, item: int, *, sign: int = 1) -> int:
    return sign * (len(shared.value()) * item + offset)


def started(shared: Shared, item: int) -> tuple[int, int]:
    """Return this process, and how often it has started the value so far."""
    shared.opened(_start)
    return os.getpid(), len(_STARTS)


_STARTS: list[int] = []


def _start(value: Any) -> int:
    _STARTS.append(1)
    time.sleep(0.1)
    return len(value)


def sleeps(folder: Path, item: int) -> int:
    """Write this process' number, and work for long."""
    (folder / f"{os.getpid()}.pid").touch()
    time.sleep(60)
    return item


def fails(item: int) -> int:
    raise CapacityError(f"item {item}", "must fit", got=item, hint="take less")


def no_file(item: int) -> int:
    raise FileNotFoundError(f"item {item}")


def dies(item: int) -> int:
    if item == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def dies_once(folder: Path, item: int) -> int:
    """Kill the worker that has item 3 first."""
    time.sleep(0.05)
    if item == 3:
        with contextlib.suppress(FileExistsError):
            (folder / "died").mkdir()
            os.kill(os.getpid(), signal.SIGKILL)
    return item


@dataclass(slots=True)
class Processes:
    """A scheduler and its workers, each a process.

    Parameters
    ----------
    folder : Path
        For what they write.
    """

    folder: Path
    address: str = ""
    own: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def start(self, workers: int, path: str) -> None:
        place = self.folder / "scheduler.json"
        given = ("--port", "0", "--no-dashboard", "--scheduler-file", str(place))
        self._start("scheduler", *given, path=path)
        until = time.monotonic() + 60
        while not self.address and time.monotonic() < until:
            with contextlib.suppress(OSError, ValueError):
                self.address = json.loads(place.read_text())["address"]
            time.sleep(0.05)
        for _ in range(workers):
            self.add_worker()

    def add_worker(self, path: str = str(ROOT)) -> subprocess.Popen[bytes]:
        """Start a worker that looks for modules in `path` first."""
        return self._start("worker", self.address, "--nthreads", "1", "--no-nanny", path=path)

    def _start(self, what: str, *args: str, path: str) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", f"distributed.cli.dask_{what}", *args]
        environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
        with (self.folder / f"{what}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, env=environment, cwd="/")
        self.own.append(process)
        return process

    def stop(self) -> None:
        for process in self.own:
            process.kill()
            process.wait()


@contextlib.contextmanager
def cluster_of(folder: Path, workers: int, *, path: str = str(ROOT)) -> Iterator[Processes]:
    """Run a scheduler, which looks for modules in `path` first, and workers."""
    found = Processes(folder)
    try:
        found.start(workers, path)
        yield found
    finally:
        found.stop()
