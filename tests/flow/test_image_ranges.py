"""A data set in ranges of images; the same report however many workers there are."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flow.data.datasets import ArraySource, Dataset, FileSource, image_folder
from flow.data.models import DIGITS, load_model
from flow.deploy import deploy
from flow.image_ranges import RANGE_IMAGES, SentFloat, checked, ranges_of, start_float
from flow.options import Options
from flow.results.evaluate import OnnxRuntime
from flow.stages import Progress, Silent, Stages
from flow.worker_request import ALONE, Workers
from tests.flow.parallel.work import cluster_of
from vta_config.errors import CalibrationError


def test_ranges() -> None:
    assert ranges_of([]) == []
    places = [*range(5), *range(7, 40)]
    found = ranges_of(places)
    assert [place for own in found for place in own] == places
    assert {len(own) for own in found[:-1]} == {RANGE_IMAGES} and len(found[-1]) <= RANGE_IMAGES


def test_images_that_a_worker_does_not_have(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    files = Dataset(name="x", source=FileSource((path,)), preprocessing=None)
    with pytest.raises(
        CalibrationError,
        match=r"a\.png: must be readable at this path by each worker, got no such file on .+; "
        "share the folder, or copy it to the same place there$",
    ):
        checked(files)
    path.touch()
    assert checked(files) is files
    array = Dataset(name="x", source=ArraySource(np.zeros((1, 8, 8), np.uint8)), preprocessing=None)
    assert checked(array) is array


def test_tensors_travel(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(2 * 3 * 4 * 4, dtype=np.float32).reshape(2, 3, 4, 4))
    data = image_folder(tmp_path, preprocessing=None, shape=(1, 3, 4, 4), labelled=False)
    data[0]
    copy = pickle.loads(pickle.dumps(data))
    assert all(np.array_equal(copy[k], data[k]) for k in (0, 1))
    assert checked(copy) is copy
    (tmp_path / "a.npy").unlink()
    with pytest.raises(CalibrationError, match="by each worker"):
        checked(copy)


def test_the_float_model_travels() -> None:
    model = load_model(DIGITS)
    image = np.random.default_rng(0).normal(size=model.input_shape).astype(np.float32)
    network = start_float(SentFloat(model.proto.SerializeToString()))
    assert np.array_equal(network(image), OnnxRuntime(model.proto)(image))


# ---- reports -------------------------------------------------------------------------------------
class Watcher(Silent):
    """A display that calls a function at the first progress of a stage."""

    def __init__(self, text: str, act: Callable[[], None]) -> None:
        self._text, self._act = text, act
        self.seen: list[tuple[int, int]] = []

    def open(self, text: str) -> Progress:
        def move(done: int, total: int, note: str = "", /) -> None:
            if text == self._text:
                if not self.seen:
                    self._act()
                self.seen.append((done, total))

        return move


def report_of(workers: Workers, tmp_path: Path, watcher: Watcher | None = None) -> str:
    """Return the report of digits, without what tells of time."""
    options = Options(
        variants=("profiled_fused",), exact_images=1, keep_results=False, workers=workers,
        cache=tmp_path, check_import=False,
    )  # fmt: skip
    report, _ = deploy(options, Stages(watcher))
    value: dict[str, Any] = report.to_json()
    del value["date"], value["seconds"]
    return json.dumps(value)


@pytest.mark.slow
def test_the_report_of_threads_and_of_a_cluster_that_loses_a_worker(tmp_path: Path) -> None:
    pytest.importorskip("distributed", reason="needs Dask: install vta-flow[dask]")
    expected = report_of(ALONE, tmp_path)
    assert report_of(Workers(jobs=2), tmp_path) == expected
    with cluster_of(tmp_path, 3) as own:
        watcher = Watcher("running profiled_fused on fsim", own.own[1].kill)
        assert report_of(Workers(cluster=own.address), tmp_path, watcher) == expected
        assert own.own[1].wait() < 0 and watcher.seen[0][0] < watcher.seen[0][1] == 599
