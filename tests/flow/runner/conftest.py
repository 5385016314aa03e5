"""The board runner and driver libraries, built for this processor and for 32-bit ARM."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
RUNNER = ROOT / "flow" / "runner"
HERE = Path(__file__).parent
ARM = "arm-linux-gnueabihf"
#: What the functional simulator is made of, without the kernels of x86.
CORE = (
    "config", "decode", "dram", "exec_alu", "exec_gemm", "exec_load", "exec_store", "fsim",
    "kernels", "kernels_amx_model", "kernels_plain", "limits", "machine", "plan", "program",
    "stream", "sums", "tape", "text", "tokens", "verify", "weights",
)  # fmt: skip


@dataclass(frozen=True)
class Runner:
    """The runner for one processor.

    Parameters
    ----------
    path : Path
        The program.
    before : tuple of str
        Words of the command line before it.
    """

    path: Path
    before: tuple[str, ...] = ()

    def __call__(
        self, *words: object, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run it."""
        return subprocess.run(
            [*self.before, str(self.path), *map(str, words)],
            capture_output=True,
            text=True,
            env={**os.environ, **(env or {})},
            timeout=120,
            check=False,
        )


def compiler() -> str:
    """Return the C++ compiler of this processor; skip where there is none."""
    found = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    if found is None:
        pytest.skip("needs a C++ compiler")
    return found


def arm_compiler() -> str:
    """Return the cross compiler; skip where it or the emulator is missing."""
    for name in (f"{ARM}-g++", "qemu-arm", "make"):
        if shutil.which(name) is None:
            pytest.skip(f"needs {name}: apt-get install g++-{ARM} qemu-user make")
    return f"{ARM}-g++"


def make(folder: Path, cxx: str, flags: str = "-O1") -> Path:
    """Build the runner by its Makefile in a copy of its folder."""
    place = Path(shutil.copytree(RUNNER, folder / "runner"))
    words = ["make", "-s", "-C", str(place), f"CXX={cxx}", f"CXXFLAGS={flags} -Werror"]
    subprocess.run(words, check=True)
    return place / "vta_run"


def build_library(cxx: str, library: Path, sources: Sequence[Path], *flags: str) -> Path:
    """Build a shared library."""
    command = [cxx, "-std=c++17", "-O1", "-shared", "-fPIC", *flags, *map(str, sources)]
    subprocess.run([*command, "-o", str(library)], check=True)
    return library


def build_core_driver(cxx: str, library: Path) -> Path:
    """Build the driver whose device is the functional simulator."""
    core = ROOT / "flow" / "sim" / "core"
    sources = [HERE / "core_driver.cc", *(core / f"{name}.cc" for name in CORE)]
    flags = ("-fno-strict-aliasing", "-Wno-psabi", "-Wno-narrowing", f"-I{core}")
    return build_library(cxx, library, sources, *flags)


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """Return the runner for this processor."""
    return Runner(make(tmp_path_factory.mktemp("native"), compiler()))


@pytest.fixture(scope="session")
def arm_runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    """Return the runner for 32-bit ARM, which an emulator runs."""
    path = make(tmp_path_factory.mktemp("arm"), arm_compiler())
    return Runner(path, ("qemu-arm", "-L", f"/usr/{ARM}"))


@pytest.fixture(scope="session")
def arm_fake_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the small VTA of the tests as a driver library for 32-bit ARM."""
    library = tmp_path_factory.mktemp("arm_driver") / "libfake.so"
    source = ROOT / "tests" / "flow" / "sim" / "fake_driver.cc"
    return build_library(arm_compiler(), library, [source], "-Wno-psabi")


@pytest.fixture(scope="session")
def core_driver(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return what builds the simulator as a driver library, once for each compiler."""
    built: dict[str, Path] = {}

    def build(cxx: str) -> Path:
        if cxx not in built:
            folder = tmp_path_factory.mktemp("core_driver")
            built[cxx] = build_core_driver(cxx, folder / "libcore.so")
        return built[cxx]

    return build
