"""The core for 64-bit ARM: built by a cross compiler, run by an emulator."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
COMPILER, EMULATOR = "aarch64-linux-gnu-g++", "qemu-aarch64"
#: The first processor has no dot product.
PROCESSORS = ("cortex-a53", "max")


@pytest.mark.slow
def test_kernels_on_processors_with_and_without_a_dot_product(tmp_path: Path) -> None:
    for tool in (COMPILER, EMULATOR):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed")
    binaries = Path(sys.executable).parent
    options = {
        "CMAKE_SYSTEM_NAME": "Linux",
        "CMAKE_SYSTEM_PROCESSOR": "aarch64",
        "CMAKE_CXX_COMPILER": COMPILER,
        "CMAKE_BUILD_TYPE": "Debug",
        "CMAKE_CXX_FLAGS_DEBUG": "-O1",
        "CMAKE_MAKE_PROGRAM": binaries / "ninja",
        "VTA_LIBRARY": "OFF",
        "VTA_CORE_TEST": "ON",
        "VTA_WERROR": "ON",
    }
    defined = [f"-D{name}={value}" for name, value in options.items()]
    run = [binaries / "cmake", "-S", ROOT, "-B", tmp_path, "-G", "Ninja", *defined]
    subprocess.run(run, check=True, capture_output=True)
    subprocess.run(
        [binaries / "cmake", "--build", tmp_path, "--target", "vta_core_test"],
        check=True,
        capture_output=True,
    )
    libraries = Path("/usr/aarch64-linux-gnu")  # where Debian's cross compiler has them
    for processor in PROCESSORS:
        command = [
            EMULATOR,
            "-cpu",
            processor,
            "-L",
            libraries,
            tmp_path / "vta_core_test",
            "quick",
        ]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
        assert (found.returncode, found.stdout.strip()) == (0, "kernels: ok"), processor
