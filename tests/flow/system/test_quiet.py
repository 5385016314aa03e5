"""Native code that writes to stderr."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from flow.system.quiet import quiet_stderr


def test_nothing_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    os.write(2, b"before ")
    with pytest.raises(ZeroDivisionError), quiet_stderr():
        os.write(2, b"inside ")
        raise ZeroDivisionError
    os.write(2, b"after")
    assert capfd.readouterr().err == "before after"


def test_without_stderr() -> None:
    code = "import os; from flow.system.quiet import quiet_stderr\n"
    code += "os.close(2)\nwith quiet_stderr():\n  print('fine')\n"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=Path(__file__).parents[3], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "fine\n")
