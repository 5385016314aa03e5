#!/usr/bin/env python3
"""Measure speed and memory: simulators against ONNX Runtime, compile, calibration, peak RSS.

Without --model, the network is the ImageNet ResNet-18 with random weights: what is measured does
not depend on their values, nor on the images, which are noise. All engines run one thread, in
turns, in this process. The time per image is the least CPU time and includes the host's work
(quantizing, packing, logits).
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the modules beside this one

from flow.data.models import load_model
from scripts.bench_engines import engine_rows, processor
from scripts.bench_gemm import gemm_step_ns
from scripts.bench_network import ResNet18, noise
from scripts.bench_torch import avx2_rows
from vta_config import FlowError, VTAConfig

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from flow.program.program import Program

#: What the project promises, printed beside what is measured.
NARROW_RATIO_LIMIT = 1.5
COMPILE_LIMIT_S, CALIBRATE_LIMIT_S, RSS_LIMIT_MIB = 20.0, 60.0, 2048.0
#: Calibration images of ONNX Runtime: its speed does not depend on their number.
ORT_IMAGES = 4


def _seconds(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _rss_mib() -> float:
    """Return the largest resident size of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _avx2_rows(programs: Sequence[Program]) -> list[tuple[str, str, str]]:
    """Return the rows of `bench_torch` for a ResNet-18 in one program."""
    (program,) = programs
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "resnet18.vta"
        program.save(path)
        return avx2_rows(path)


def bench(
    model_name: str, config_name: str, images: int, calibration: int, *, avx2: bool = False
) -> list[str]:
    """Measure one model; return the lines to print. With `avx2` it is a ResNet-18 at 224².

    Raises
    ------
    FlowError
        When the model or the machine cannot be used.
    """
    from flow.options import Options
    from flow.session import open_backend

    config = VTAConfig.load(config_name)
    model = load_model(model_name)
    backend = open_backend(model, config, Options(model=model_name, config=config_name))
    data = noise(calibration, model.input_shape)
    calibrate_s = _seconds(lambda: backend.calibrate(data, lambda done, total, note="": None))
    compiled: list[Any] = []
    compile_s = _seconds(lambda: compiled.append(backend.compile("profiled_fused")))
    network = compiled[0].model
    rss_mib = _rss_mib()  # of the flow, not of what it is compared with
    stock_ns, narrow_ns = gemm_step_ns(("default", "w4"))
    pictures = list(noise(images + 1, model.input_shape))
    rows = [
        *engine_rows(model.proto, network, pictures[:ORT_IMAGES], pictures),
        *(_avx2_rows(network.programs) if avx2 else ()),
        ("compile", f"{compile_s:.1f} s", f"<= {COMPILE_LIMIT_S:.0f} s"),
        (
            f"calibrate, {calibration} images",
            f"{calibrate_s:.1f} s",
            f"<= {CALIBRATE_LIMIT_S:.0f} s",
        ),
        (
            "GEMM step on w4 / on default",
            f"{narrow_ns / stock_ns:.2f}",
            f"<= {NARROW_RATIO_LIMIT:.1f}",
        ),
        ("peak memory", f"{rss_mib:.0f} MiB", f"<= {RSS_LIMIT_MIB:.0f} MiB"),
    ]
    kernels = network.simulators[0].sim.kernels
    head = f"{model.name} on {config.name}, one thread of {processor()}, kernels {kernels}"
    return [head, *(f"  {name:<28}{value:>20}   {limit}".rstrip() for name, value, limit in rows)]


def _first_deploy(model_name: str, images: Path, calibration: Path) -> str:
    """Return what `bench_flow` prints, run in a process of its own."""
    script = str(Path(__file__).with_name("bench_flow.py"))
    folders = ["--images", str(images), "--calibration", str(calibration)]
    command = [sys.executable, script, "--model", model_name, *folders]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    return done.stdout.rstrip()


def main(argv: list[str] | None = None) -> int:
    """Parse the options, measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="", help="name or FILE.onnx[.xz]; default: ResNet-18")
    parser.add_argument("--config", default="default", help="preset or vta_config.json")
    parser.add_argument("--images", type=int, default=20, help="images to time (default 20)")
    parser.add_argument("--calibration", type=int, default=125, help="images (default 125)")
    parser.add_argument(
        "--deploy", type=Path, nargs=2, metavar=("IMAGES", "CALIBRATION"), action="extend",
        default=[], help="also measure a first deploy, with these two folders of images",
    )  # fmt: skip
    options = parser.parse_args(argv)
    os.environ["TVM_NUM_THREADS"] = "1"  # read when its threads start
    try:
        with tempfile.TemporaryDirectory() as folder:
            name = options.model
            if not name:
                name = str(Path(folder) / "resnet18-random.onnx")
                onnx.save(ResNet18().model(), name)
            lines = bench(
                name, options.config, options.images, options.calibration, avx2=not options.model
            )
            if options.deploy:
                lines.append(_first_deploy(name, *options.deploy[-2:]))
    except FlowError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
