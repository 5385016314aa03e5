"""Whole runs with a cache: the same report in less time, and a stopped run that goes on."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import flow.backend
import flow.session
from flow.backend import PipelineBackend, PipelineCompiled
from flow.cache.store import RESULTS, Cache, files_in
from flow.cli import main
from flow.deploy import deploy
from flow.options import Options
from flow.pipeline import Pipeline
from flow.results.evaluate import OnnxRuntime
from flow.results.report import Report
from flow.stages import Stages
from flow.verify import Verifier
from vta_config.errors import ArtifactError

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[3]
OPTIONS = Options(limit=12, exact_images=3, variants=("profiled_fused",))


class Work:
    """Counts what is computed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[str] = []
        for owner, name in (
            (OnnxRuntime, "__call__"), (Pipeline, "_made"), (Verifier, "_results"),
            (PipelineBackend, "_started"),
        ):  # fmt: skip
            monkeypatch.setattr(owner, name, self._counted(name, getattr(owner, name)))
        profile = flow.profile_ranges.profile
        monkeypatch.setattr(flow.profile_ranges, "profile", self._counted("profile", profile))

    def _counted(self, name: str, function: Any) -> Any:
        def run(*args: Any, **options: Any) -> Any:
            self.done.append(name)
            return function(*args, **options)

        return run

    def take(self) -> dict[str, int]:
        """Return how often each was called since the last time."""
        counts = {name: self.done.count(name) for name in sorted(set(self.done))}
        self.done.clear()
        return counts


def told(report: Report) -> dict[str, Any]:
    """Return a report without times."""
    value = json.loads(json.dumps(report.to_json()))
    del value["seconds"], value["date"]
    return value


def run(folder: Path, options: Options = OPTIONS, **other: Any) -> dict[str, Any]:
    report, _ = deploy(replace(options, cache=folder, **other), Stages())
    return told(report)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """Return the cache folder of a run, and its report."""
    folder = tmp_path_factory.mktemp("first")
    with pytest.MonkeyPatch.context() as patch:
        work = Work(patch)
        report = run(folder)
        assert work.take().keys() == {"__call__", "_made", "_results", "_started", "profile"}
    return folder, report


@pytest.fixture
def folder(first: tuple[Path, dict[str, Any]], tmp_path: Path) -> Path:
    """Return a copy of that folder."""
    return Path(shutil.copytree(first[0], tmp_path / "cache"))


def test_a_second_run_computes_nothing(
    first: tuple[Path, dict[str, Any]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(monkeypatch)
    assert run(folder) == first[1]
    assert not work.take()
    assert run(folder, keep_results=False) == first[1]
    assert work.take()["__call__"] == 12


@pytest.mark.parametrize(
    ("change", "anew"),
    [
        ({"config": "ultra96"}, {"_made", "_results", "_started", "profile"}),
        ({"engine": "tsim"}, {"_results", "_started"}),
        ({"variants": ("profiled",)}, {"_made", "_results", "_started"}),
        ({"seed": 1, "limit": 3}, {"__call__", "_results", "_started"}),
    ],
)
def test_what_other_options_compute_anew(
    change: dict[str, Any], anew: set[str], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = Work(monkeypatch)
    run(folder, **change)
    assert work.take().keys() == anew


@pytest.mark.parametrize("damage", [b"", b"PK\3\4 not a zip", None])
def test_damaged_results_are_made_anew(
    first: tuple[Path, dict[str, Any]], folder: Path, damage: bytes | None
) -> None:
    for file in files_in(folder):
        data = file.path.read_bytes()
        file.path.write_bytes(data[: len(data) // 2] if damage is None else damage)
    assert run(folder) == first[1]
    assert all(file.file_bytes > 200 for file in files_in(folder))


def test_differences_are_compared_each_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(folder / RESULTS / "verified")
    right = Verifier.run

    def wrong(self: Verifier, *args: Any) -> Any:
        host = self._host
        self._host = lambda image: [x + 1 for x in host(image)]  # type: ignore[assignment]
        return right(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Verifier, "run", wrong)
        for _ in range(2):
            (variant,) = run(folder)["variants"][1:]
            assert variant["exact"]["mismatches"]
    assert not list((folder / RESULTS / "verified").glob("*/*"))
    work = Work(monkeypatch)
    run(folder)
    assert work.take()["_results"] == 3


def test_asked_to_verify_it_is_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["verify", "--limit", "2", "--variant", "profiled_fused", "--cache", str(tmp_path)]
    assert main(command) == 0
    work = Work(monkeypatch)
    assert main(command) == 0
    assert work.take() == {"_results": 2, "_started": 1}
    assert "of 2 images compared, all equal" in capsys.readouterr().out


def test_without_a_cache_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user"))
    args = ["evaluate", "--limit", "2", "--variant", "profiled_fused", "--no-cache"]
    assert main(args) == 0
    assert main([*args, "--cache", str(tmp_path / "other")]) == 0
    assert not list(tmp_path.iterdir())


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    hint = "choose another --cache, or give --no-cache"
    with pytest.raises(ArtifactError, match=rf"must be a folder that can be written.*; {hint}"):
        run(tmp_path / "file")
    run(tmp_path / "file", keep_results=False)


def test_a_driver_is_asked_each_time(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whatever runs behind it, its results are not known here.
    kept: list[Cache] = []
    results = flow.backend.KeptResults
    monkeypatch.setattr(
        flow.backend, "KeptResults", lambda cache, key: kept.append(cache) or results(cache, key)
    )
    monkeypatch.setattr(PipelineBackend, "_started", lambda self, model: model.network())
    options = replace(OPTIONS, cache=folder)
    session = flow.session.open_session(options, Stages())
    assert isinstance(session.backend, PipelineBackend) and session.calibration is not None
    session.backend.calibrate(session.calibration, lambda *at: None)
    for engine in ("fsim", "driver"):
        session.backend._engine = engine  # type: ignore[assignment]
        compiled = session.backend.compile("profiled_fused")
        assert isinstance(compiled, PipelineCompiled) and session.evaluation is not None
        assert (compiled.kept_rows(session.evaluation) is None) == (engine == "driver")
    assert [cache.enabled for cache in kept] == [True, False]


def test_a_killed_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import sys, time, flow.cache.rows as rows, flow.results.evaluate as evaluate\n"
        "rows.KeptRows.__init__.__kwdefaults__['every_s'] = 0.0\n"
        "right = evaluate.Later.__call__\n"
        "def slow(self, image):\n"
        "    time.sleep(0.2)\n"
        "    return right(self, image)\n"
        "evaluate.Later.__call__ = slow\n"
        "from flow.cli import main\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    args = ["deploy", "--variant", "profiled_fused", "--limit", "40", "--exact-images", "0"]
    args += ["--cache", str(tmp_path / "cache"), "--output", str(tmp_path / "out")]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *args],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    logits = tmp_path / "cache" / RESULTS / "logits"
    try:
        end = time.monotonic() + 300
        while len(list(logits.glob("*/*.npz"))) < 5 and time.monotonic() < end:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    finally:
        process.kill()
        process.wait()
    rows = sum(len(np.load(path)["rows"]) for path in logits.glob("*/*.npz"))
    assert 5 <= rows < 40
    work, ran = Work(monkeypatch), list[int]()
    networks = PipelineCompiled.networks

    def counted(self: PipelineCompiled) -> Any:
        (network,) = networks(self)
        return [lambda image: ran.append(1) or network(image)]

    monkeypatch.setattr(PipelineCompiled, "networks", counted)
    options = replace(OPTIONS, limit=40, exact_images=0)
    found = run(tmp_path / "cache", options)
    assert len(ran) == 40 - rows
    assert not {"__call__", "_made", "profile"} & work.take().keys()
    assert found == run(tmp_path / "other", options)
