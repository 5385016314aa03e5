"""What deploy and evaluate show and write."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flow.commands import deploy
from flow.options import VARIANTS
from relay_passes.integers.plan import QuantPlan
from tests.flow.fakes import PLAN, FakeBackend, FakeCompiled, call


def test_deploy_writes_report_and_table(
    fake: type[FakeBackend],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deploy, "can_plot", lambda: True)
    out = tmp_path / "a" / "b"
    assert call("deploy", "--limit", 20, "--exact-images", 2, "--output", out, "--layers") == 0
    shown = capsys.readouterr()
    assert "profiled_fused" in shown.out and "all equal" in shown.out and "inp loaded" in shown.out
    assert shown.err == ""  # no bars: not a terminal
    report = json.loads((out / "report.json").read_text())
    assert report["variants"][0]["name"] == "float32"
    assert report["exact"] == {"images": 2, "tensors": 2, "mismatches": 0, "first": ""}
    assert report["deployed"] == "best"
    assert [v["name"] for v in report["variants"]] == ["float32", *VARIANTS]
    names = sorted(p.name for p in out.iterdir())
    assert names == ["artefact", "layers.csv", "report.html", "report.json", "trace.json"]
    assert (out / "artefact" / "manifest.json").is_file()
    assert f"artefact   {out / 'artefact'}\n" in shown.out
    assert "1,234 cycles, 0.01 ms per image" in shown.out and "residual" in shown.out
    assert QuantPlan.from_json(report["plan"]) == PLAN
    assert report["latency"]["cycles"] == 1234 and "install vta-flow[plot]" not in shown.out


def test_deploy_without_matplotlib_says_so(
    fake: type[FakeBackend],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(deploy, "can_plot", lambda: False)
    assert call("deploy", "--limit", 5, "--exact-images", 0, "--output", tmp_path) == 0
    shown = capsys.readouterr()
    assert shown.out.count("no plots: matplotlib is missing; install vta-flow[plot]\n") == 1
    assert shown.err == "" and (tmp_path / "report.json").is_file()


def test_deploy_without_a_compiler_says_so(
    fake: type[FakeBackend],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(FakeCompiled, "artefact_note", "no library.so: no compiler")
    assert call("deploy", "--limit", 5, "--exact-images", 0, "--output", tmp_path) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"artefact {tmp_path / 'artefact'} (no library.so: no compiler)" in shown


def test_same_seed_same_images(fake: type[FakeBackend], tmp_path: Path) -> None:
    results = []
    for seed in (1, 1, 2):
        call("deploy", "--limit", 30, "--seed", seed, "--output", tmp_path)
        variants = json.loads((tmp_path / "report.json").read_text())["variants"]
        results.append([v["sqnr_db"] for v in variants])
    assert results[0] == results[1] != results[2]


def test_mismatches_exit_with_1(
    fake: type[FakeBackend], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.mismatches = 3
    assert call("deploy", "--limit", 5, "--output", tmp_path) == 1
    assert "3 DIFFER; first: conv1 on fsim" in capsys.readouterr().out
    assert (tmp_path / "report.json").is_file()
    fake.differing = frozenset({"per_tensor"})
    assert call("deploy", "--limit", 5, "--output", tmp_path) == 1
    shown = " ".join(capsys.readouterr().out.split())
    assert "best: 5 tensors of 5 images compared, all equal" in shown
    assert "per_tensor: 4 tensors of 4 images compared, 3 DIFFER; first: conv1 on fsim" in shown
    assert "8 other variants: 32 tensors of 4 images compared, all equal" in shown
    fake.differing = frozenset()
    assert call("verify", "--limit", 4) == 1
    assert "3 of 4 tensors of 4 images differ; first: conv1 on fsim" in capsys.readouterr().out


def test_deploy_chosen_variants(
    fake: type[FakeBackend], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ("--limit", 5, "--variant", "w4a8", "--variant", "profiled", "--output", tmp_path)
    assert call("deploy", *args) == 0
    assert "profiled: 5 tensors of 5 images" in capsys.readouterr().out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["deployed"] == "profiled"
    assert [v["name"] for v in report["variants"]] == ["float32", "profiled", "w4a8"]


def test_evaluate_chosen_variants(
    fake: type[FakeBackend], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ("evaluate", "--limit", 9, "--variant", "profiled_fused", "--variant", "single_scale")
    assert call(*args, "--output", tmp_path) == 0
    shown = capsys.readouterr().out
    assert "single_scale" in shown and "profiled " not in shown and "exact" not in shown
    names = [v["name"] for v in json.loads((tmp_path / "report.json").read_text())["variants"]]
    assert names == ["float32", "single_scale", "profiled_fused"]


def test_brackets_in_names_are_shown(
    fake: type[FakeBackend], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("compile", "--output", tmp_path / "[a]") == 0
    assert "[a]" in capsys.readouterr().out.replace("\n", "")


@pytest.mark.parametrize("command", ["deploy", "evaluate"])
def test_report_as_json(
    command: str, fake: type[FakeBackend], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ("--limit", 3, "--variant", "best", "--output", tmp_path, "--json", "-q")
    assert call(command, *args) == 0
    shown = capsys.readouterr()
    value = json.loads(shown.out)
    assert value == json.loads((tmp_path / "report.json").read_text()) and shown.err == ""
    assert value["command"][0] == "vta-flow" and value["command"][1:3] == [command, "--limit"]


def test_verbose_tells_of_every_stage(
    fake: type[FakeBackend], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("deploy", "--limit", 3, "--variant", "best", "--output", tmp_path, "-v") == 0
    stages = [line.rpartition(": done, ")[0] for line in capsys.readouterr().err.splitlines()]
    assert stages[0].startswith("importing ") and "calibrating" in stages
    assert stages[-2:] == ["comparing layers of best", "collecting details of best"]
