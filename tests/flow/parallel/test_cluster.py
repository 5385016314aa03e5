"""The map over a Dask cluster: results, lost workers, and what is refused."""

from __future__ import annotations

import http.server
import sys
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

import flow
from flow.parallel.run import check_cluster, run_all
from flow.parallel.shared import Shared
from flow.worker_request import Workers
from tests.flow.parallel.work import (
    ROOT,
    Processes,
    cluster_of,
    dies,
    dies_once,
    fails,
    late_first,
    no_file,
    scaled,
    square,
    started,
)
from vta_config.errors import CapacityError, ClusterError, ConfigError

OWN = flow.__version__
pytest.importorskip("distributed", reason="needs Dask: install vta-flow[dask]")


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Processes]:
    with cluster_of(tmp_path_factory.mktemp("dask"), 3) as found:
        yield found


@pytest.mark.slow
def test_results_are_in_the_order_of_the_items(cluster: Processes) -> None:
    told: list[tuple[int, int]] = []

    def progress(done: int, total: int, note: str = "", /) -> None:
        told.append((done, total))

    found = run_all(square, range(7), cluster=cluster.address, progress=progress)
    assert list(found) == [0, 1, 4, 9, 16, 25, 36]
    assert told == [(done, 7) for done in range(1, 8)]
    assert list(run_all(late_first, range(5), cluster=cluster.address)) == [0, 1, 2, 3, 4]
    assert list(run_all(square, [], cluster=cluster.address)) == []


@pytest.mark.slow
def test_shared_values_are_started_once_on_a_worker(cluster: Processes) -> None:
    from flow.parallel.cluster import connected

    shared = Shared.of(bytes(1 << 20))
    for _ in range(2):  # what workers have stays there between calls
        found = list(run_all(partial(started, shared), range(12), cluster=cluster.address))
        assert {count for _, count in found} == {1} and len({worker for worker, _ in found}) > 1
    assert list(connected(cluster.address).sent) == [shared.digest]
    twice = run_all(partial(scaled, shared, 5, sign=-1), [1, 2], cluster=cluster.address)
    assert list(twice) == [-(k * (1 << 20) + 5) for k in (1, 2)]


@pytest.mark.slow
def test_the_error_of_an_item_comes_out(cluster: Processes) -> None:
    with pytest.raises(CapacityError, match=r"^item \d: must fit, got \d; take less$"):
        list(run_all(fails, range(3), cluster=cluster.address))
    with pytest.raises(FileNotFoundError, match="item"):
        list(run_all(no_file, range(3), cluster=cluster.address))


@pytest.mark.slow
def test_lost_workers(tmp_path: Path) -> None:
    with cluster_of(tmp_path, 3) as own:
        work = partial(dies_once, tmp_path)
        assert list(run_all(work, range(12), cluster=own.address)) == list(range(12))
        assert (tmp_path / "died").is_dir() and sum(p.poll() is not None for p in own.own) == 1
        for _ in range(3):
            own.add_worker()
        with pytest.raises(
            ClusterError,
            match="^--cluster: must have workers that live longer than an item takes, got tcp://"
            r".* lost, the last of 4 with the same item; see the log of that worker, such as for "
            "memory$",
        ):
            list(run_all(dies, range(6), cluster=own.address))


@pytest.mark.slow
def test_a_scheduler_that_is_lost(tmp_path: Path) -> None:
    with cluster_of(tmp_path, 1) as own:
        results = run_all(late_first, [0] * 50, cluster=own.address)
        assert next(results) == 0
        own.own[0].kill()
        with pytest.raises(
            ClusterError,
            match="^--cluster: must have its scheduler tcp://.* and a worker until the end, got "
            "lost the scheduler; start them again; what was done is kept unless --no-cache$",
        ):
            list(results)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("packages", "what"),
    [
        ({"flow/__init__.py": "__version__ = '0.0.1'"}, f"vta-flow {OWN} .*got 0.0.1"),
        ({"flow/__init__.py": "raise ImportError"}, f"vta-flow {OWN} .*got none"),
        (
            {"sitecustomize.py": "import importlib.metadata as m\ndef none(name, old=m.version):\n"
             "    if name == 'apache-tvm': raise m.PackageNotFoundError(name)\n"
             "    return old(name)\nm.version = none"},
            "apache-tvm 0.* everywhere, as here, got none",
        ),
    ],
    ids=["another version", "no vta-flow", "no TVM"],
)  # fmt: skip
def test_a_worker_with_other_versions(packages: dict[str, str], what: str, tmp_path: Path) -> None:
    for name, text in packages.items():
        (tmp_path / "other" / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "other" / name).write_text(text)
    with cluster_of(tmp_path, 0) as own:
        own.add_worker(path=f"{tmp_path / 'other'}:{ROOT}")
        with pytest.raises(
            ClusterError,
            match=f"^--cluster: must have {what} on tcp://.*; install the same versions there, or "
            "results would differ$",
        ):
            list(run_all(square, range(3), cluster=own.address))


@pytest.mark.slow
def test_a_scheduler_with_another_version(tmp_path: Path) -> None:
    (tmp_path / "flow").mkdir()
    (tmp_path / "flow" / "__init__.py").write_text("__version__ = '0.0.1'")
    with cluster_of(tmp_path, 0, path=str(tmp_path)) as own:
        own.add_worker()
        with pytest.raises(ClusterError, match="got 0.0.1 on the scheduler of tcp://.*; install"):
            list(run_all(square, range(3), cluster=own.address))


@pytest.mark.slow
def test_a_scheduler_without_workers(tmp_path: Path) -> None:
    from flow.parallel.cluster import on_cluster

    with cluster_of(tmp_path, 0) as own:
        with pytest.raises(
            ClusterError,
            match="^--cluster: must have a worker, got none at tcp://.* in 0.5 s; start some: dask "
            "worker tcp://.*$",
        ):
            list(on_cluster(square, [1], own.address, patience_s=0.5))


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    from flow.parallel.cluster import on_cluster

    for address in ("", "nonsense", "http://host:8786", "tcp://host"):
        with pytest.raises(
            ConfigError,
            match="^--cluster: must be the address of a Dask scheduler, got .*: .*; give one like "
            "tcp://host:8786, which dask scheduler writes when it starts$",
        ):
            check_cluster(Workers(cluster=address))
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.BaseHTTPRequestHandler)
    monkeypatch.setattr(http.server.BaseHTTPRequestHandler, "log_message", lambda *args: None)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for address in ("tcp://127.0.0.1:1", f"tcp://127.0.0.1:{server.server_port}"):
        with pytest.raises(
            ClusterError,
            match=f"^--cluster: must be the address of a Dask scheduler that runs, got {address}, "
            "where none answers; start one with dask scheduler, and give the address that it "
            "writes$",
        ):
            list(on_cluster(square, [1], address, patience_s=0.3))
    server.shutdown()


@pytest.mark.slow
def test_the_address_of_a_worker(cluster: Processes) -> None:
    from flow.parallel.cluster import connected

    connected(cluster.address).client.wait_for_workers(1)
    worker = next(iter(connected(cluster.address).client.scheduler_info()["workers"]))
    with pytest.raises(ClusterError, match=f"got {worker}, where a Worker answers; start one"):
        list(run_all(square, [1], cluster=worker))


def test_without_dask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dask", None)
    with pytest.raises(
        ConfigError,
        match=r"^--cluster: must have Dask, got no module dask; install vta-flow\[dask\]$",
    ):
        list(run_all(square, [1], cluster="tcp://host:8786"))
