"""process.py and tracebacks.py: signals, streams, exit codes, errors nobody expected."""

from __future__ import annotations

import io
import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from flow.system import process
from flow.system.process import EXIT_BAD_INPUT, EXIT_INTERNAL, Work
from flow.system.tracebacks import InternalError, internal_error
from vta_config.errors import ConfigError

ROOT = Path(__file__).parents[3]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(ROOT)}
#: Takes the process over, then does what the test wants; imports nothing that takes time.
HEAD = "import os, pathlib, sys, time\nfrom flow.system import process\nprocess.open_streams()\n"


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", HEAD + code, *map(str, arguments)],
        cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def signalled(child: subprocess.Popen[str], number: int) -> tuple[int, str]:
    """Wait until `child` says so, send it a signal; return its exit code and stderr."""
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    child.send_signal(number)
    _, err = child.communicate(timeout=60)
    return child.returncode, err


# ---- signals -------------------------------------------------------------------------------------
IN_PYTHON = """
try:
    while True: time.sleep(0.01)
except BaseException as error:
    print(error)
"""
#: Python's handler never runs: the main thread does not come back to Python.
IN_NATIVE_CODE = """
import ctypes, threading
class Timespec(ctypes.Structure): _fields_ = [("s", ctypes.c_long), ("ns", ctypes.c_long)]
left = Timespec(60, 0)
nanosleep = ctypes.CDLL(None).nanosleep
while left.s: nanosleep(ctypes.byref(left), ctypes.byref(left))
"""
IN_A_THREAD = """
import concurrent.futures
with concurrent.futures.ThreadPoolExecutor(1) as pool:
    pool.submit(time.sleep, 60).result()
"""
WHILE_WRITING = """
from flow.system import files
files.os.fsync = lambda descriptor: time.sleep(60)
files.write_atomic(pathlib.Path(sys.argv[1]) / "x", b"half")
"""


@pytest.mark.parametrize("code", [IN_PYTHON, IN_NATIVE_CODE, IN_A_THREAD, WHILE_WRITING])
def test_signals_end_the_process_whatever_it_does(code: str, tmp_path: Path) -> None:
    child = start(f"process.take_over('p')\nprint('ready', flush=True)\n{code}", tmp_path)
    assert signalled(child, signal.SIGINT) == (130, "p: interrupted\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "word"),
    [(signal.SIGTERM, "terminated"), (signal.SIGHUP, "the terminal went away")],
)
def test_other_signals(number: int, word: str) -> None:
    child = start(f"process.take_over('p')\nprint('ready', flush=True)\n{IN_PYTHON}")
    assert signalled(child, number) == (128 + number, f"p: {word}\n")


def test_signals_that_are_ignored_stay_ignored() -> None:
    code = """
import signal
signal.signal(signal.SIGINT, signal.SIG_IGN)
process.take_over("p")
print("ready", flush=True)
time.sleep(1)
process.settle()
os.kill(os.getpid(), signal.SIGTERM)  # too late
sys.exit(5)
"""
    assert signalled(start(code), signal.SIGINT) == (5, "")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "module"),
    [
        ("module", "rich.table"),
        ("module", "tvm_ffi"),
        ("module", "onnxruntime"),
        ("script", "tvm_ffi"),
    ],
)
def test_interrupt_during_imports(command: str, module: str, tmp_path: Path) -> None:
    what = ["-m", "flow", "deploy"] if command == "module" else ["scripts/deploy_resnet18.py"]
    child = subprocess.Popen(
        [sys.executable, "-X", "importtime", *what, "--output", str(tmp_path / "x")],
        cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert child.stderr is not None
    for line in child.stderr:
        if re.search(rf"\b{module}\b", line):
            break
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130 and out == ""
    said = [line for line in err.splitlines() if not line.startswith("import time:")]
    assert len(said) == 1 and said[0].endswith(": interrupted") and not (tmp_path / "x").exists()


# ---- standard streams ----------------------------------------------------------------------------
def test_closed_streams_do_not_take_other_files(tmp_path: Path) -> None:
    code = f"""
import os, sys
from flow.system import process
process.open_streams()
with open({str(tmp_path / "file")!r}, "w") as file:
    os.write(1, b"from a library")
    os.write(2, b"from a library")
    print("from us")
    process.complain("from us")
    file.write(str(file.fileno()))
sys.exit(process.run("p", lambda work: 7))
"""
    done = subprocess.run(
        ["bash", "-c", 'exec "$@" <&- >&- 2>&-', "bash", sys.executable, "-c", code],
        cwd=ROOT, env=ENVIRONMENT, check=False,
    )  # fmt: skip
    assert done.returncode == 7
    assert int((tmp_path / "file").read_text()) > 2


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
def test_any_text_under_any_encoding(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", out)
    process.open_streams()
    out.write("1×2 … Δ−5 \u0301漢\udcff")
    out.flush()
    shown = out.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]
    expected = {
        "ascii": "1x2 ~ d-5 ???",
        "latin-1": "1×2 ~ d-5 ???",
        "utf-8": "1×2 … Δ−5 \u0301漢?",
    }
    assert shown == expected[encoding]
    with pytest.raises(UnicodeDecodeError):  # replaces what is written, not what is read
        b"\xff".decode("ascii", errors="vta-plain")


def test_one_line_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    process.complain("a\nb\tc\x1b[31m")
    assert capsys.readouterr().err == "a b c?[31m\n"
    monkeypatch.setattr(sys, "stderr", Path("/dev/full").open("w"))
    process.complain("nobody reads this")
    process.complain("nor this")


# ---- errors --------------------------------------------------------------------------------------
def fail(error: BaseException) -> int:
    raise error


def test_exit_codes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert process.run("p", lambda work: 1) == 1
    for error, code, said in (
        (ConfigError("x", "must be y", got=1), EXIT_BAD_INPUT, "p: x: must be y, got 1"),
        (
            FileNotFoundError(2, "No such file", "a.txt"),
            EXIT_BAD_INPUT,
            "p: a.txt: must be usable, got No such file; check the paths given and the space left",
        ),
        (OSError(28, "No space left"), EXIT_BAD_INPUT, "p: a file: must be usable, got No space"),
        (KeyboardInterrupt(), 130, "p: interrupted"),
        (InternalError("best: internal error"), EXIT_INTERNAL, "p: best: internal error"),
    ):
        assert process.run("p", lambda work, error=error: fail(error)) == code  # type: ignore[misc]
        shown = capsys.readouterr()
        assert shown.out == "" and shown.err.startswith(said) and shown.err.count("\n") == 1
    with pytest.raises(SystemExit) as stop:
        process.run("p", lambda work: fail(SystemExit(2)))
    assert stop.value.code == 2


class Deep(Exception):
    def __str__(self) -> str:
        return "\n  first line\nsecond line"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (IndexError("list index out of range"), "IndexError: list index out of range"),
        (Deep(), "Deep: first line"),
        (MemoryError(), "MemoryError"),
        (RecursionError("maximum recursion depth exceeded"), "RecursionError: maximum recursion"),
        (OSError("libLLVM.so: cannot open shared object file"), "OSError: libLLVM.so: cannot open"),
    ],
)
def test_what_nobody_expected(
    error: Exception, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def body(work: Work) -> int:
        work.folder = tmp_path / "out"
        return fail(error)

    assert process.run("p", body) == EXIT_INTERNAL
    shown = capsys.readouterr()
    path = tmp_path / "out" / "internal-error.txt"
    assert shown.err.startswith(f"p: internal error, got {words}")
    assert shown.err.endswith(f"; please report it with {path}, which has the traceback\n")
    assert shown.out == "" and shown.err.count("\n") == 1
    text = path.read_text(encoding="utf-8")
    assert "Traceback (most recent call last):" in text and "in fail" in text
    assert "numpy " in text and "python 3" in text and type(error).__name__ in text


def test_deep_recursion_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def body(work: Work) -> int:
        work.folder = tmp_path
        return body(work)

    assert process.run("p", body) == EXIT_INTERNAL
    assert "got RecursionError: maximum recursion depth exceeded" in capsys.readouterr().err


def test_where_no_folder_can_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    told = internal_error(ValueError("v"), tmp_path / "file", where="a/b c")
    (path,) = tmp_path.glob("vta-flow-internal-error-a-b-c-*.txt")
    assert str(told) == (
        "a/b c: internal error, got ValueError: v; "
        f"please report it with {path}, which has the traceback"
    )
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    assert process.run("p", lambda work: fail(ValueError("v"))) == EXIT_INTERNAL
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].endswith("got ValueError: v; please report it with this traceback:")
    assert "Traceback (most recent call last):" in lines and "ValueError: v" in lines[-1]

    def nowhere() -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    monkeypatch.chdir(tmp_path)
    told = internal_error(ValueError("v"))
    assert "please report it with vta-flow-internal-error-" in str(told)
