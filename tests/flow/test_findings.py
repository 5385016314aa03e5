"""Findings: each variant whole, or without a trace."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flow.data.datasets import Dataset
from flow.deploy import deploy
from flow.findings import UNFINISHED, Findings
from flow.options import (
    Options,
)
from flow.results.evaluate import OnnxRuntime, measure, run_all
from flow.results.report import Exactness
from flow.session import calibrate, open_session
from flow.stages import Progress, Stages
from tests.flow.fakes import FakeBackend, FakeCompiled
from vta_config.errors import (
    DriverError,
)


def findings(**options: Any) -> Findings:
    """Return what is found before any variant, from a backend that needs no compiler."""
    asked = Options(limit=4, **options)
    stages = Stages()
    session = open_session(asked, stages, factory=FakeBackend)
    data = session.evaluation
    assert data is not None
    calibrate(session, stages)
    reference = run_all(OnnxRuntime(session.model.proto), data, values=session.model.classes)
    return Findings(
        session=session,
        options=asked,
        stages=stages,
        reference=reference,
        preference=("best", "profiled", "w4a8"),
        few_images=2,
        metrics=[measure("float32", reference, reference, data.targets)],
    )


def test_the_deployed_variant_is_the_most_preferred_so_far() -> None:
    found = findings(exact_images=3)
    deployed = []
    for variant in ("profiled", "w4a8", "best"):
        found.add(variant)
        assert found.deployed is not None
        deployed.append((found.deployed.variant, found.deployed.exact_images))
    assert deployed == [("profiled", 2), ("profiled", 2), ("best", 3)]
    assert [p.exact.images for p in found.programs if p.exact is not None] == [2, 2, 3]
    assert [m.name for m in found.metrics] == ["float32", "profiled", "w4a8", "best"]
    found.compare_deployed(None)  # has all its images already
    assert found.report().deployed == "best" and not found.skipped


def test_the_deployed_variant_is_compared_again_on_all_images() -> None:
    found = findings(exact_images=4)
    found.add("profiled")
    found.compare_deployed(None)
    (facts,) = found.programs
    assert facts.exact is not None and facts.exact.images == 4


@pytest.mark.parametrize("place", ["quantize", "compile", "run", "verify", "layers"])
def test_a_variant_that_fails_leaves_no_trace(place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = findings(exact_images=2)
    found.add("profiled")
    monkeypatch.setattr(FakeBackend, "faults", {"best": IndexError("i")})
    monkeypatch.setattr(FakeBackend, "place", place)
    with pytest.raises(IndexError):
        found.add("best")
    assert [m.name for m in found.metrics] == ["float32", "profiled"]
    assert [p.variant for p in found.programs] == ["profiled"]
    assert found.report().deployed == "profiled"


def test_a_report_says_what_is_still_to_come() -> None:
    found = findings(exact_images=0)
    found.add("profiled")
    report = found.report(("best", "w4a8"))
    assert [(s.variant, s.reason) for s in report.skipped] == [
        ("best", UNFINISHED), ("w4a8", UNFINISHED),
    ]  # fmt: skip
    assert report.stopped == "the run has not ended" and found.report().stopped == ""
    assert report.evaluation is not None and report.evaluation.images == 4
    assert report.exact is None


def test_next_preferred_variant_where_the_best_is_impossible(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FakeBackend, "broken", frozenset({"best", "w4a8"}))
    report, _ = deploy(Options(limit=6, exact_images=6), Stages(), factory=FakeBackend)
    assert [s.variant for s in report.skipped] == ["best", "w4a8"]
    assert report.deployed == "per_tensor"
    assert report.exact is not None and report.exact.images == 6


@pytest.mark.parametrize("driver", [False, True])
def test_error_in_the_last_comparison(
    driver: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # `best` is left out, so `profiled` is compared again, on more images.
    calls: list[int] = []

    def verify(
        self: object, images: Dataset, progress: Progress, *, anew: bool = False
    ) -> Exactness:
        calls.append(len(images))
        if len(calls) == 2:
            raise DriverError("lib.so", "must run") if driver else ZeroDivisionError
        return Exactness(images=len(images), tensors=1, mismatches=0)

    monkeypatch.setattr(FakeCompiled, "verify", verify)
    monkeypatch.setattr(FakeBackend, "broken", frozenset({"best"}))
    options = Options(limit=9, exact_images=8, variants=("profiled", "best"))
    report, _ = deploy(options, Stages(), factory=FakeBackend, folder=tmp_path)
    assert calls == [4, 8] and report.deployed == "profiled"
    assert report.exact is not None and report.exact.images == 4
    if driver:
        assert report.stopped == "lib.so: must run"
    else:
        (_, skipped) = report.skipped
        assert (
            skipped.variant == "profiled on more images" and "ZeroDivisionError" in skipped.reason
        )
