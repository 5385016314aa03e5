"""The time of an image on AVX2: fsim held to it against PyTorch's int8 ResNet-18 held to it.

ONNX Runtime has no switch for its instruction set. PyTorch's is read from the environment when it
is loaded, so that `avx2_rows` runs this file in a process of its own. The network of PyTorch has
the shapes of ResNet-18 and random weights: uint8 activations, int8 weights per channel.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))  # the modules beside this one

from flow.program.program import Program
from flow.sim.program_sim import ProgramSim
from vta_config import FlowError

#: What holds ATen, oneDNN and FBGEMM to AVX2.
_AVX2: Final = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "FBGEMM_ENABLE_INSTRUCTIONS": "AVX2",
    "OMP_NUM_THREADS": "1",
}
_ENGINES: Final = ("onednn", "fbgemm")
_RUNS: Final = 15
_STAGES: Final = ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1))


def avx2_rows(program: Path) -> list[tuple[str, str, str]]:
    """Measure in a process of its own; return rows of a name, a value and what is promised."""
    if importlib.util.find_spec("torch") is None:
        return [("AVX2 against PyTorch", "not measured", "needs PyTorch")]
    done = subprocess.run(
        [sys.executable, __file__, str(program)],
        env={**os.environ, **_AVX2}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        return [("AVX2 against PyTorch", "not measured", done.stderr.strip()[-60:])]
    fsim, *others = map(float, done.stdout.split())
    rows = [("fsim, avx2", f"{fsim:.1f} ms per image", "")]
    rows += [
        (f"int8, PyTorch {engine}, avx2", f"{ms:.1f} ms per image", "")
        for engine, ms in zip(_ENGINES, others, strict=True)
    ]
    return [*rows, ("fsim / PyTorch, avx2", f"{fsim / min(others):.2f}", "<= 2.0")]


def _torch_network(engine: str) -> Callable[[], Any]:
    import torch

    torch.backends.quantized.engine = engine
    quantized, channels = torch.ops.quantized, 64

    def weight(*shape: int) -> Any:
        scales, zeros = torch.full(shape[:1], 1e-3), torch.zeros(shape[0], dtype=torch.long)
        values = 0.05 * torch.randn(shape)
        return torch.quantize_per_channel(values, scales, zeros, 0, torch.qint8)

    def conv(i: int, o: int, k: int, stride: int = 1) -> Any:
        pad = [k // 2] * 2
        return quantized.conv2d_prepack(
            weight(o, i, k, k), torch.randn(o), [stride] * 2, pad, [1, 1], 1
        )

    stem, blocks = conv(3, 64, 7, 2), []
    for out, stride in _STAGES:
        skip = conv(channels, out, 1, stride) if stride > 1 else None
        blocks.append((conv(channels, out, 3, stride), conv(out, out, 3), skip))
        channels = out
    dense = quantized.linear_prepack(weight(1000, channels), torch.randn(1000))
    image = torch.randn(1, 3, 224, 224).contiguous(memory_format=torch.channels_last)

    def run() -> Any:
        x = torch.quantize_per_tensor(image, 0.02, 64, torch.quint8)
        x = torch.max_pool2d(quantized.conv2d_relu(x, stem, 0.05, 0), 3, 2, 1)
        for first, second, skip in blocks:
            y = quantized.conv2d(quantized.conv2d_relu(x, first, 0.05, 0), second, 0.05, 64)
            x = x if skip is None else quantized.conv2d(x, skip, 0.05, 64)
            x = quantized.add_relu(y, x, 0.05, 0)
        x = torch.nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)
        return quantized.linear(x, dense, 0.1, 0).dequantize()

    return run


def _fsim_network(program: Program) -> Callable[[], Any]:
    sim, rng = ProgramSim(program, kernels="avx2"), np.random.default_rng(0)
    data = [rng.integers(-128, 128, port.shape).astype(np.int8) for port in program.inputs]
    return lambda: sim.run(data)


def main() -> int:
    """Print the least CPU milliseconds of fsim and of each engine of PyTorch, run in turns."""
    try:
        networks = [_fsim_network(Program.load(Path(sys.argv[1])))]
        networks += [_torch_network(engine) for engine in _ENGINES]
    except FlowError as error:  # no AVX2 here
        sys.stderr.write(f"{error}\n")
        return 2
    least = [float("inf")] * len(networks)
    for _ in range(_RUNS):
        for k, run in enumerate(networks):
            begin = time.process_time()
            run()
            least[k] = min(least[k], 1e3 * (time.process_time() - begin))
    sys.stdout.write(" ".join(f"{ms:.3f}" for ms in least) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
