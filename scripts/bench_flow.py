#!/usr/bin/env python3
"""Measure what a first `deploy` costs, in a process of its own: CPU and wall seconds, peak memory.

Nothing is taken from the cache and nothing is kept. Without folders, the model must bring images.
"""

from __future__ import annotations

import argparse
import resource
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1]))  # run from a checkout

from vta_config import FlowError

#: What the project promises for the ImageNet ResNet-18, printed beside what is measured.
CPU_LIMIT_S, COMPILE_LIMIT_S, RSS_LIMIT_MIB = 90.0, 3.0, 1229.0


def deploy_lines(
    model: str,
    images: Path | None,
    calibration: Path | None,
    limit: int | None,
    variants: tuple[str, ...] | None = None,
) -> list[str]:
    """Deploy a model, in the default variants without others; return the lines to print.

    Raises
    ------
    FlowError
        When the model or the images cannot be used.
    """
    from flow.deploy import deploy
    from flow.options import Options
    from flow.stages import Stages

    stages, begin = Stages(), time.perf_counter()
    options = Options(
        model=model,
        images=images,
        calibration=calibration,
        limit=limit,
        variants=variants,
        keep_results=False,
    )
    report, _ = deploy(options, stages)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s, wall_s = usage.ru_utime + usage.ru_stime, time.perf_counter() - begin
    compiled = max(1, len(report.variants) - 1)  # without float32
    compile_s = stages.cpu_seconds.get("compile", 0.0) / compiled
    rows: list[tuple[str, float, float | None, str]] = [
        *((name, cpu, stages.seconds[name], "") for name, cpu in stages.cpu_seconds.items()),
        ("all, with imports", cpu_s, wall_s, f"<= {CPU_LIMIT_S:.0f} s of CPU"),
        ("compile, each variant", compile_s, None, f"<= {COMPILE_LIMIT_S:.0f} s of CPU"),
    ]
    memory_mib = usage.ru_maxrss / 1024
    return [
        f"first deploy of {report.model_name}, variants: {compiled}; CPU and wall seconds",
        *(
            f"  {name:<28}{cpu:>10.1f}{'' if wall is None else format(wall, '10.1f'):>10}   {limit}"
            for name, cpu, wall, limit in rows
        ),
        f"  {'peak memory':<28}{memory_mib:>16.0f} MiB   <= {RSS_LIMIT_MIB:.0f} MiB",
    ]


def main(argv: list[str] | None = None) -> int:
    """Parse the options, measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", required=True, help="name or FILE.onnx[.xz]")
    parser.add_argument("--images", type=Path, help="folder of images to evaluate")
    parser.add_argument("--calibration", type=Path, help="folder of images to calibrate on")
    parser.add_argument("--limit", type=int, default=200, help="images evaluated (default 200)")
    parser.add_argument("--variant", action="append", help="one of them; repeatable")
    options = parser.parse_args(argv)
    try:
        lines = deploy_lines(
            options.model,
            options.images,
            options.calibration,
            options.limit,
            tuple(options.variant) if options.variant else None,
        )
    except FlowError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    print("\n".join(line.rstrip() for line in lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
