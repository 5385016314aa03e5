"""flow.cli: subcommands, exit codes, one line an error, nothing half-written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import helper
from PIL import Image

from flow.data.models import DIGITS_ONNX
from tests.flow.fakes import FakeBackend, call
from tests.flow.onnx_models import save, tiny_model
from vta_config.errors import DriverError

ROOT = Path(__file__).parents[2]


# ---- good ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["deploy", "evaluate", "compile", "run", "disasm", "verify"])
def test_every_subcommand_has_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        call(command, "--help")
    assert stop.value.code == 0 and "usage: vta-flow" in capsys.readouterr().out


def test_help_and_completion_wait_for_nothing_that_loads_slowly() -> None:
    code = (
        "import sys; from flow import cli; cli.build_parser().format_help(); "
        "slow = {'tvm', 'tvm_ffi', 'torch', 'onnxruntime', 'matplotlib', 'scipy'}; "
        "print(sorted(slow & set(sys.modules)))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


# ---- an output that is full, gone, narrow or without characters ----------------------------------
class Output:
    """Puts another file in the place of stdout."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def full(self) -> None:
        self._monkeypatch.setattr(sys, "stdout", Path("/dev/full").open("w"))

    def gone(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        self._monkeypatch.setattr(sys, "stdout", os.fdopen(writer, "w"))

    def file(self, path: Path, encoding: str) -> None:
        self._monkeypatch.setattr(sys, "stdout", path.open("w", encoding=encoding))


@pytest.fixture
def output(monkeypatch: pytest.MonkeyPatch) -> Output:
    return Output(monkeypatch)


@pytest.mark.parametrize("how", ["full", "gone"])
def test_results_do_not_depend_on_stdout(
    how: str, fake: type[FakeBackend], output: Output, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for command, file in (
        (("deploy", "--variant", "best"), "report.json"),
        (("evaluate", "--variant", "best"), "report.json"),
        (("compile",), "digits-resnet18.vta"),
    ):
        out = tmp_path / command[0]
        limit = () if command == ("compile",) else ("--limit", 2)
        getattr(output, how)()
        assert call(*command, *limit, "--output", out) == 0
        assert (out / file).stat().st_size
        error = capsys.readouterr().err
        if how == "gone":
            assert error == ""
        else:
            told = "stdout: must be writable, got No space left on device; the result is in "
            assert error == f"{told}{out}\n"
    getattr(output, how)()
    fake.mismatches = 1
    assert call("verify", "--limit", 2) == 1
    getattr(output, how)()
    assert call("deploy", "--limit", 2, "--variant", "best", "--output", tmp_path / "x") == 1


@pytest.mark.parametrize("command", ["evaluate", "run"])
def test_what_is_shown_alone_is_lost_with_stdout(
    command: str, fake: type[FakeBackend], output: Output, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    Image.new("L", (8, 8)).save(tmp_path / "x.png")
    args = (tmp_path / "x.png",) if command == "run" else ("--limit", 2, "--variant", "best")
    output.full()
    assert call(command, *args) == 2
    sentence = "stdout: must be writable, got No space left on device; write to another place"
    assert capsys.readouterr().err == f"vta-flow: {sentence}\n"
    output.gone()
    assert call(command, *args) == 0 and capsys.readouterr().err == ""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_tables_stay_tables_without_characters(
    encoding: str, fake: type[FakeBackend], output: Output, tmp_path: Path
) -> None:
    args = ("deploy", "--limit", 2, "--variant", "best", "--variant", "profiled", "--layers")
    output.file(tmp_path / "shown", encoding)
    assert call(*args, "--output", tmp_path / "café 漢") == 0
    sys.stdout.close()
    text = (tmp_path / "shown").read_text(encoding=encoding)
    rows = [line for line in text.splitlines() if line.startswith(("|", "+"))]
    assert len(rows) > 12 and any("profiled" in row for row in rows)
    first = text[: text.index("model  ")].splitlines()
    assert len({len(row) for row in first}) == 1  # as wide as each other
    assert "1x16x16" in text if encoding == "ascii" else "1×16×16" in text
    assert (tmp_path / "café 漢" / "report.json").is_file()


# ---- errors inside -------------------------------------------------------------------------------
def test_internal_error_of_all_variants(
    fake: type[FakeBackend], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.faults = {"best": IndexError("list index out of range")}
    args = ("--limit", 2, "--variant", "best")
    assert call("deploy", *args, "--output", tmp_path / "out") == 3
    path = tmp_path / "out" / "internal-error-best.txt"
    assert capsys.readouterr().err == (
        "vta-flow: best: internal error, got IndexError: list index out of range; "
        f"please report it with {path}, which has the traceback\n"
    )
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["internal-error-best.txt"]
    assert call("compile", "--output", tmp_path / "c") == 3
    assert (tmp_path / "c" / "internal-error.txt").is_file()
    capsys.readouterr()
    assert call("evaluate", *args, "--variant", "profiled", "--output", tmp_path / "e") == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "skipped best: internal error, got IndexError: list index" in shown


def test_error_while_drawing_loses_nothing_else(
    fake: type[FakeBackend], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.faults, fake.place = {"best": ZeroDivisionError("no picture")}, "draw"
    assert call("deploy", "--limit", 2, "--variant", "best", "--output", tmp_path) == 3
    shown = capsys.readouterr()
    assert "all equal" in shown.out and f"report     {tmp_path}/report.json" in shown.out
    assert "internal error, got ZeroDivisionError: no picture" in shown.err
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["artefact", "internal-error.txt", "layers.csv", "report.html", "report.json"]


def test_driver_that_fails_in_a_later_variant(
    fake: type[FakeBackend], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.faults = {"best": DriverError("lib.so", "must finish the program", got="status 1")}
    args = ("--limit", 2, "--variant", "profiled", "--variant", "best", "--output", tmp_path)
    assert call("deploy", *args) == 2
    shown = capsys.readouterr()
    assert shown.err == "stopped: lib.so: must finish the program, got status 1\n"
    assert "profiled: 2 tensors of 2 images compared, all equal" in shown.out
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["deployed"] == "profiled" and report["stopped"] in shown.err


def test_report_that_cannot_be_written_is_shown(
    fake: type[FakeBackend], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "report.json").mkdir()
    assert call("deploy", "--limit", 2, "--variant", "best", "--output", tmp_path) == 2
    shown = capsys.readouterr()
    assert "all equal" in shown.out and "report.json: must be writable, got Is a dir" in shown.err


@pytest.mark.parametrize("value", ["0", "-1", "nan", "inf", "soon"])
def test_timeout_is_a_time(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        call("deploy", "--driver-timeout", value)
    sentence = f"--driver-timeout: must be a positive number of seconds, got {value}"
    assert sentence in capsys.readouterr().err


@pytest.mark.slow
def test_reader_that_goes_away() -> None:
    done = subprocess.run(
        ["bash", "-c", f"{sys.executable} -m flow --help | head -c 1"],
        cwd=ROOT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0 and "Traceback" not in done.stderr


# ---- bad input: exit code 2, one line, nothing written -------------------------------------------
def refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, *args: object, command: str = "deploy"
) -> str:
    """Run a subcommand that must refuse; return its sentence."""
    out = tmp_path / "never" / "made"
    assert call(command, *args, "--output", out) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.startswith("vta-flow: ")
    assert shown.err.count("\n") == 1 and "Traceback" not in shown.err
    assert not (tmp_path / "never").exists()
    return shown.err


def test_missing_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = refused(capsys, tmp_path, "--model", tmp_path / "no.onnx")
    assert "no.onnx: must be an ONNX file, got no such file; check the path" in text


def test_truncated_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = DIGITS_ONNX.read_bytes()
    (tmp_path / "cut.onnx").write_bytes(data[: len(data) // 2])
    text = refused(capsys, tmp_path, "--model", tmp_path / "cut.onnx")
    assert "cut.onnx: must be a complete ONNX file, got a truncated or damaged file" in text


def test_unsupported_operator(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    extra: tuple[onnx.NodeProto, ...] = (helper.make_node("Frobnicate", ["r"], ["e"], name="odd"),)
    save(tiny_model(extra=extra), tmp_path / "m.onnx")
    text = refused(capsys, tmp_path, "--model", tmp_path / "m.onnx")
    assert "node odd: must be an operator that TVM's ONNX importer supports, got Frobni" in text


def test_dynamic_shape(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    save(tiny_model(shape=("N", 3, "H", "W")), tmp_path / "m.onnx")
    text = refused(capsys, tmp_path, "--model", tmp_path / "m.onnx")
    assert "--input-shape, --images, --calibration: must be given: " in text
    assert "leaves the size of its input open, ['N', 3, 'H', 'W'], and has no images" in text


def test_a_folder_is_no_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "m.onnx").mkdir()
    text = refused(capsys, tmp_path, "--model", tmp_path / "m.onnx")
    assert "m.onnx: must be an ONNX file, got a folder; check the path" in text


@pytest.mark.parametrize(
    ("option", "sentence"),
    [
        ("--model", ": must be an ONNX file or a known name, got neither; known names: "),
        ("--config", ": must be usable, got File name too long; check the paths"),
        (
            "--images",
            ": must be a folder of images, or a text file (.txt) that lists them, got File name",
        ),
    ],
)
def test_a_name_that_no_file_can_have(
    option: str, sentence: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    text = refused(capsys, tmp_path, option, "x" * 5000)
    assert "xxx" in text and sentence in text


def test_output_beyond_a_broken_link(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for out in (tmp_path / "link", tmp_path / "link" / "x"):
        assert call("deploy", "--output", out) == 2
        text = capsys.readouterr().err
        assert "must be a folder that can be written to, got " in text and "a broken link;" in text


@pytest.mark.parametrize("option", ["--seed", "--exact-images"])
@pytest.mark.parametrize("value", ["-1", "x"])
def test_counts_are_not_negative(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        call("deploy", option, value)
    assert f"{option}: must be 0 or a positive integer, got {value}" in capsys.readouterr().err


def test_label_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / "labels.csv").write_text("filename,label_index\nx.png,3\n")
    text = refused(capsys, tmp_path, "--images", folder)
    assert (
        "labels.csv line 2: must name an image in its folder, got x.png, which is missing" in text
    )


def test_impossible_machine(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = refused(capsys, tmp_path, "--config", "vta9000")
    assert "vta9000: is neither a preset nor a readable file; presets: " in text


def test_offline(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    mirror = ("--mirror", "http://127.0.0.1:9/", "--cache", tmp_path / "cache")
    text = refused(capsys, tmp_path, "--model", "resnet18-v1-7", *mirror)
    assert "resnet18-v1-7: must be downloaded once (47 MB), got no answer from 127.0.0.1" in text


def test_output_that_is_a_file(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for command in ("deploy", "evaluate", "compile"):
        assert call(command, "--output", tmp_path / "file" / "x") == 2
        text = capsys.readouterr().err
        assert "must be a folder that can be written to, got " in text and "file, a file;" in text


def test_damaged_program(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "p.vta").write_bytes(b"VTAFLOW1 and then nothing")
    text = refused(capsys, tmp_path, tmp_path / "p.vta", command="disasm")
    assert "p.vta" in text
    refused(capsys, tmp_path, tmp_path / "missing.vta", command="disasm")


def test_driver_without_library(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    text = refused(capsys, tmp_path, "--engine", "driver")
    assert "--driver: must be given with --engine driver" in text


@pytest.mark.parametrize("limit", ["0", "-3", "many"])
def test_limit_must_be_positive(limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        call("deploy", "--limit", limit)
    assert stop.value.code == 2
    assert f"must be a positive integer, got {limit}" in capsys.readouterr().err


def test_interrupt(
    fake: type[FakeBackend], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.broken = frozenset({"interrupt"})
    assert call("deploy", "--limit", 2, "--output", tmp_path / "never") == 130
    assert capsys.readouterr().err == "vta-flow: interrupted\n"
    assert not (tmp_path / "never").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "command", [["-m", "flow", "deploy"], [str(ROOT / "scripts" / "deploy_resnet18.py")]]
)
def test_as_a_module_and_as_a_script(command: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, *command, "--config", "vta9000", "--output", str(tmp_path / "x")],
        cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 2 and done.stdout == ""
    assert "vta9000: is neither a preset" in done.stderr and "Traceback" not in done.stderr
