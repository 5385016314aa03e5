"""--print-after and --stop-after: what each stage made, in a file; no stage twice in the list."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

import pytest

from flow import cli, session
from flow import deploy as jobs
from flow.data.models import DIGITS, bundled_data, load_model
from flow.pipeline import STAGES, Pipeline
from flow.program.asm import assemble, disassemble
from flow.show_stages import SKIPPED, STAGE_ABOUT, Wanted, text_of
from relay_passes.graph import op_name, read_graph
from relay_passes.quantize_model import quantize_model
from relay_passes.stage import Rows
from relay_passes.variants import STOCK_RELAY, VARIANTS
from tests.flow.fakes import FakeBackend
from vta_config import VTAConfig
from vta_config.errors import ConfigError

ROOT = Path(__file__).parents[2]
NAMES = [stage.name for stage in STAGES]


def wanted(*names: str, stop: str | None = None, variant: Any = "best") -> Wanted:
    return Wanted.of_options(
        argparse.Namespace(
            output=Path("out"), print_after=list(names), stop_after=stop, variant=variant
        )
    )


def test_every_stage_has_a_name_of_its_own_and_a_row_in_the_docs() -> None:
    page = (ROOT / "docs" / "flow.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([\w-]+)` \| (.+) \|$", page, re.MULTILINE)
    assert listed == [(stage.name, stage.about) for stage in STAGES]
    assert len(set(NAMES)) == len(NAMES)
    assert list(STAGE_ABOUT) == NAMES


def test_what_is_wanted() -> None:
    none = wanted()
    assert not none.names and not none.stops
    assert none.last is None and none.write(FakeBackend, "best") == ()  # type: ignore[arg-type]
    some = wanted("fuse", "fold")
    assert (some.names, some.last, some.stops) == ({"fuse", "fold"}, "fuse", False)
    both = wanted("fold", stop="plan")
    assert (both.names, both.last, both.stops) == ({"fold", "plan"}, "plan", True)


def test_unknown_stages() -> None:
    listed = re.escape(", ".join(NAMES))
    with pytest.raises(ConfigError, match=f"^--print-after: must be among {listed}, got magic; "):
        wanted("magic")
    with pytest.raises(ConfigError, match=f"^--stop-after: must be among {listed}, got magic; "):
        wanted(stop="magic")


def test_no_stage_after_the_last() -> None:
    with pytest.raises(
        ConfigError, match="^--print-after: must not come after --stop-after fuse, got partition; "
    ):
        wanted("partition", stop="fuse")


def test_stock_relay_has_passes_of_its_own() -> None:
    text = "must be among requantize, partition, compile, got fuse; choose one of these: stock_rel"
    for variant in (STOCK_RELAY, [STOCK_RELAY]):
        with pytest.raises(ConfigError, match=text):
            wanted("fuse", variant=variant)
        assert wanted("partition", variant=variant).last == "partition"


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> None:
    for function in (jobs.deploy, session.open_session):
        defaults = {**(function.__kwdefaults__ or {}), "factory": FakeBackend}
        monkeypatch.setattr(function, "__kwdefaults__", defaults)


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("command", ["deploy", "compile"])
def test_printing_goes_on_and_stopping_does_not(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = [command, "--variant", "best", "--print-after", "plan", "--output"]
    files = {"deploy": {"report.json", "layers.csv", "trace.json"}, "compile": {f"{DIGITS}.vta"}}[
        command
    ]
    first = tmp_path / "first"
    assert cli.main([*args, str(first)]) == 0
    assert f"stage      {first / 'after-plan.txt'}" in capsys.readouterr().out
    assert {p.name for p in first.iterdir()} >= {"after-plan.txt"} | files
    second = tmp_path / "second"
    assert cli.main([*args, str(second), "--stop-after", "fuse"]) == 0
    assert {p.name for p in second.iterdir()} == {"after-plan.txt", "after-fuse.txt"}
    assert "conv1" in (second / "after-plan.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", ["deploy", "compile"])
def test_unknown_stage_is_one_sentence(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([command, "--print-after", "magic"]) == 2
    shown = capsys.readouterr()
    assert shown.err.count("\n") == 1 and "--print-after: must be among fold, profile" in shown.err


# ---- the pipeline itself -------------------------------------------------------------------------
@pytest.fixture(scope="module")
def pipeline() -> Pipeline:
    model = load_model(DIGITS)
    made = Pipeline(model, VTAConfig.load("default"))
    data = bundled_data(model)
    assert data is not None
    made.calibrate([data[1][i] for i in range(2)])
    return made


def results(pipeline: Pipeline, variant: str, stop: str | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    pipeline.walk(variant, found.__setitem__, stop=stop)
    return found


def kinds(mod: Any) -> set[str]:
    return {op_name(b.value) for b in read_graph(mod).bindings}


@pytest.mark.slow
def test_stages_in_order(pipeline: Pipeline) -> None:
    found = results(pipeline, "profiled_fused")
    assert list(found) == NAMES
    skipped = {name for name, result in found.items() if result is None}
    assert skipped == {"profile-again", "moments", "correct-bias", "learn"}
    assert found["fold"] is pipeline.folded and "dequantize" in kinds(found["quantize"])
    assert "right_shift" in kinds(found["requantize"])
    quantized = pipeline.form("profiled_fused")
    assert found["requantize"].script() == quantized.script()
    same = pipeline.compile(quantized).programs
    assert [p.insn_bytes for p in found["compile"]] == [p.insn_bytes for p in same]
    texts = {name: text_of(result) for name, result in found.items()}
    assert texts["moments"] == SKIPPED and "R.nn.conv2d" in texts["fold"]
    assert "R.quantize" in texts["quantize"] and "composite" in texts["partition"].lower()
    again = assemble(texts["compile"], pipeline.config)
    assert disassemble(again, pipeline.config, origins=lambda _: "") == disassemble(
        same[0].insns, pipeline.config, origins=lambda _: ""
    )
    for name in ("profile", "choose-scales", "round", "plan"):
        assert len(texts[name].splitlines()) > len(pipeline.compile(quantized).programs[0].layers)


@pytest.mark.slow
@pytest.mark.parametrize("stop", ["fold", "profile", "rewrite", "fuse", "requantize", "partition"])
def test_no_stage_runs_after_the_last(pipeline: Pipeline, stop: str) -> None:
    assert list(results(pipeline, "profiled_fused", stop)) == NAMES[: NAMES.index(stop) + 1]


@pytest.mark.slow
def test_stock_relay_begins_late(pipeline: Pipeline) -> None:
    assert list(results(pipeline, STOCK_RELAY)) == ["requantize", "partition", "compile"]


@pytest.mark.slow
def test_fusion_is_left_out_where_it_is_not_asked_for(pipeline: Pipeline) -> None:
    found = results(pipeline, "profiled", "requantize")
    assert found["fuse"] is None and found["requantize"] is not None


@pytest.mark.slow
def test_quantize_model_runs_the_same_stages(pipeline: Pipeline) -> None:
    told: list[str] = []
    options = VARIANTS["profiled_fused"].options
    mod = quantize_model(
        pipeline.folded, pipeline.profiles, options, after=lambda name, _: told.append(name)
    )
    assert told == NAMES[2:-2]
    assert mod.script() == pipeline.form("profiled_fused").script()


def test_a_table_is_whole_and_harmless() -> None:
    text = text_of(Rows(headings=("tensor",), rows=(("a" * 300,), ("[red]b\x1b",))))
    assert text.count("a") == 300 and "[red]b" in text and "\x1b" not in text


def test_every_stage_says_in_help_what_it_makes() -> None:
    from flow.pipeline import STAGES

    assert {stage.name: stage.about for stage in STAGES} == STAGE_ABOUT
