"""The time of an image: fsim and tsim against ONNX Runtime in float32 and int8; threads."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flow.artefacts.networks import FSIM, ProgramRunner
from flow.results.evaluate import OnnxRuntime
from flow.sim.core_library import vta_modules
from flow.system.limits import UNLIMITED
from flow.system.threads import available_cores
from scripts.compare_ort import quantized_by_ort

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flow.compiled_model import CompiledModel
    from flow.program.program import Program

#: What the project promises: fsim against int8 with AMX, with AVX-512 VNNI, and with less.
FSIM_LIMITS: Final[Mapping[str, float]] = {"amx": 0.6, "avx512vnni": 0.95}
FSIM_LIMIT, TSIM_LIMIT, THREADS_LIMIT_PERCENT = 2.0, 1.2, 90.0
#: Runs of every thread when threads are measured, and how often.
_RUNS, _REPEATS = 16, 3
#: Images that a network runs before another one has its turn.
_IN_A_ROW = 10

Network = Callable[["NDArray[np.float32]"], Any]


def processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """Return the name of the processor, as Linux or Python knows it."""
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()


def references(proto: Any, calibration: Sequence[NDArray[np.float32]]) -> dict[str, Network]:
    """Return ONNX Runtime's networks: float32, and int8 (QDQ, per channel) from the images."""
    networks: dict[str, Network] = {"float32, ONNX Runtime": OnnxRuntime(proto)}
    for name, unsigned in (("S8S8", False), ("U8S8", True)):
        quantized = quantized_by_ort(proto, calibration, per_channel=True, unsigned=unsigned)
        networks[f"int8 {name}, ONNX Runtime"] = OnnxRuntime(quantized)
    return networks


def simulators(model: CompiledModel) -> dict[str, Network]:
    """Return the compiled network on fsim and on tsim; each includes what the host does."""
    networks: dict[str, Network] = {}
    for engine in ("fsim", "tsim"):
        own = replace(model)  # with an executable of its own
        for module in vta_modules(own.executable.mod):
            module["set_engine"](engine, "")
        networks[engine] = own.network()
    return networks


def least_cpu_ms(
    networks: Mapping[str, Network], images: Sequence[NDArray[np.float32]]
) -> dict[str, float]:
    """Run the networks in turns, some images in a row; return the least CPU milliseconds of each.

    CPU time, and the least of it: other work on the machine disturbs both least. In a row, as when
    a network is used: after another network, the first image finds no weights in the caches.
    """
    least = dict.fromkeys(networks, float("inf"))
    for begin in range(0, len(images), _IN_A_ROW):
        for name, network in networks.items():
            for image in images[begin : begin + _IN_A_ROW]:
                start = time.process_time()
                network(image)
                least[name] = min(least[name], 1e3 * (time.process_time() - start))
    return least


def threads_percent(program: Program, threads: int, runs: int = _RUNS) -> float:
    """Return the images a second that `threads` threads run, in percent of as many single ones."""
    runners = [ProgramRunner(program, FSIM, UNLIMITED) for _ in range(threads)]
    inputs = [np.zeros(port.shape, np.int8) for port in program.inputs]

    def work(runner: ProgramRunner) -> None:
        for _ in range(runs):
            runner(inputs)

    def seconds(some: Sequence[ProgramRunner]) -> float:
        with ThreadPoolExecutor(len(some)) as pool:
            begin = time.perf_counter()
            for future in [pool.submit(work, runner) for runner in some]:
                future.result()
            return time.perf_counter() - begin

    seconds(runners)  # warms caches up
    alone = min(seconds(runners[:1]) for _ in range(_REPEATS))
    return 100 * alone / min(seconds(runners) for _ in range(_REPEATS))


def engine_rows(
    proto: Any,
    model: CompiledModel,
    calibration: Sequence[NDArray[np.float32]],
    images: Sequence[NDArray[np.float32]],
) -> list[tuple[str, str, str]]:
    """Measure all engines in turns; return rows of a name, a value and what is promised."""
    others = references(proto, calibration)
    ms = least_cpu_ms({**others, **simulators(model)}, images)
    rows = [(name, f"{value:.1f} ms per image", "") for name, value in ms.items()]
    float32, _, u8s8 = others
    kernels = model.simulators[0].sim.kernels
    cores = available_cores()
    limit = FSIM_LIMITS.get(kernels, FSIM_LIMIT)
    percent = threads_percent(model.programs[0], cores)
    return [
        *rows,
        ("fsim / float32", f"{ms['fsim'] / ms[float32]:.2f}", ""),
        ("fsim / int8 U8S8", f"{ms['fsim'] / ms[u8s8]:.2f}", f"<= {limit}"),
        ("tsim / fsim", f"{ms['tsim'] / ms['fsim']:.2f}", f"<= {TSIM_LIMIT}"),
        (f"fsim on {cores} threads", f"{percent:.0f} %", f">= {THREADS_LIMIT_PERCENT:.0f} %"),
    ]
