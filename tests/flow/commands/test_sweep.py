"""``vta-flow sweep``: axes in; a table, CSV or JSON, and files out."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from flow.cli import build_parser
from flow.commands.arguments import options_of
from flow.commands.sweep import request_of
from flow.sweep.costs import usual_constants
from flow.sweep.rows import QUANTITIES
from flow.sweep.run import Request
from flow.system.threads import available_cores
from tests.flow.fakes import call
from tests.flow.onnx_models import save, tiny_model
from vta_config.errors import FlowError


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny_model(), tmp_path_factory.mktemp("model") / "tiny.onnx")


def test_table_csv_and_json(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    axes = ("--axis", "block=16,32", "--axis", "bus=64,128", "--jobs", "1", "--output", out)
    assert call("sweep", model, *axes) == 0
    shown = capsys.readouterr().out
    assert "tiny: " in shown and "of 4 machines on the front" in shown
    assert "4 of 4 rows measured" in shown and "bus 64 → 128" in shown
    assert sorted(p.name for p in out.iterdir()) == [
        "machines.csv", "machines.html", "machines.json", "machines.svg", "measured.jsonl",
    ]  # fmt: skip
    assert call("sweep", "--model", model, *axes, "--format", "csv") == 0
    text = capsys.readouterr().out
    assert len(list(csv.DictReader(io.StringIO(text)))) == 4
    assert text == (out / "machines.csv").read_text()
    assert call("sweep", model, *axes, "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert "4 rows from the run before" in value["remarks"]
    assert value == json.loads((out / "machines.json").read_text())


def request(*arguments: object) -> Request:
    args = build_parser().parse_args(["sweep", *map(str, arguments)])
    args.command_line = ()
    return request_of(args, options_of(args, None))


def test_options_become_a_request(model: Path, tmp_path: Path) -> None:
    space = tmp_path / "space.json"
    space.write_text('{"config": ["default", "w4"], "axes": {"bus": 64}, "where": ["block = 16"]}')
    constants = tmp_path / "mine.json"
    constants.write_text('{"add_pj": 1}')
    found = request(
        model, "other.onnx", "--space", space, "--axis", "bus=64,128", "--axis", "block=16",
        "--where", "sram < 1MiB", "--variant", "per_tensor", "--max-machines", 7,
        "--max-minutes", 1.5, "--seed", 3, "--compare", "latency,area", "--objective", "latency",
        "--model-constants", constants, "--no-cache", "--search",
    )  # fmt: skip
    assert found.models == (str(model), "other.onnx")
    assert list(found.space.machines) == ["default", "w4"]
    assert found.space.axes == {"bus": (64, 128), "block": (16,)}
    assert [c.text for c in found.where] == ["block = 16", "sram < 1MiB"]
    assert (found.variants, found.most, found.minutes) == (("per_tensor",), 7, 1.5)
    assert (found.seed, found.compared, found.fresh) == (3, ("latency", "area"), True)
    assert found.how.objective == "latency" and found.how.schedules is not None
    assert found.constants.add_pj == 1.0 and found.constants.name == "mine"
    assert found.jobs == available_cores()
    usual = request("--axis", "config=ultra96,default")
    assert usual.models == ("digits-resnet18",)
    assert list(usual.space.machines) == ["ultra96", "default"]
    assert usual.compared == QUANTITIES and usual.constants == usual_constants()
    assert not usual.fresh and usual.how.schedules is None
    one = request("--config", "w4", "--cluster", "tcp://x:1")
    assert list(one.space.machines) == ["w4"] and one.jobs is None


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--axis", "blocks=16"), "--axis: must name an axis of a machine, got blocks; known: bl"),
        (("--axis", "config=nope"), "nope: is neither a preset nor a readable file"),
        (("--where", "ram < 1"), "--where 'ram < 1': must name quantities of a machine, got ram"),
        (("--compare", "price"), "--compare: must be among latency, area, energy, accuracy"),
        (("--space", "nope.json"), "nope.json: must be readable, got No such file"),
        (("--model-constants", "nope.json"), "nope.json: must be readable"),
        (
            ("--jobs", "2", "--cluster", "tcp://x:1"),
            "--jobs, --cluster: must not be given together",
        ),
    ],
)
def test_what_cannot_be_used(
    arguments: tuple[str, ...], sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(FlowError, match=sentence):
        request(*arguments)
    assert call("sweep", *arguments, "--output", tmp_path / "out") == 2
    assert sentence[:30] in capsys.readouterr().err


def test_help_names_axes_and_quantities(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build_parser().parse_args(["sweep", "--help"])
    text = capsys.readouterr().out
    assert "inp-buffer" in text and "sram" in text and "weight-bits" in text
