#!/usr/bin/env python3
"""Measure speed and memory: fsim against ONNX Runtime in float32, compile, calibration, peak RSS.

Without --model, the network is the ImageNet ResNet-18 with random weights: what is measured does
not depend on their values, nor on the images, which are noise. Both engines run one thread, in
turns, in this process; times per image are medians and include the host's work (quantizing,
packing, logits).
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from flow.data.datasets import Dataset, Preprocessing
from flow.data.models import load_model
from flow.results.evaluate import OnnxRuntime
from flow.sim.fsim import FSim
from vta_config import FlowError, VTAConfig
from vta_config.isa import Insn, Memory, Opcode, encode, encode_uop
from vta_config.semantics import dram_elem_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

CHANNELS = (64, 128, 256, 512)
CLASSES = 1000
INPUT_PIXELS = 224
#: What the project promises, printed beside what is measured.
NARROW_RATIO_LIMIT = 1.5
FSIM_RATIO_LIMIT, COMPILE_LIMIT_S, CALIBRATE_LIMIT_S, RSS_LIMIT_MIB = 4.0, 20.0, 60.0, 2048.0


# ---- the network and its images -----------------------------------------------------------------
class _ResNet18:
    """Collects the nodes and random weights of a ResNet-18 (arXiv 1512.03385)."""

    def __init__(self) -> None:
        self.rng = np.random.default_rng(0)
        self.nodes: list[Any] = []
        self.weights: list[Any] = []

    def weight(self, name: str, *shape: int) -> str:
        """Add a weight with the variance that keeps activations in range (He, 2 / fan_in).

        Laplace: trained weights have heavier tails than a normal distribution.
        """
        fan_in = int(np.prod(shape[1:]))
        values = self.rng.laplace(0, (1 / fan_in) ** 0.5, shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def node(self, op: str, name: str, *inputs: str, **attributes: Any) -> str:
        """Add a node; return its output."""
        self.nodes.append(helper.make_node(op, list(inputs), [name], **attributes))
        return name

    def conv(self, name: str, x: str, ic: int, oc: int, kernel: int, stride: int) -> str:
        """Add a convolution with a bias: BatchNorm folded."""
        weight = self.weight(f"{name}.weight", oc, ic, kernel, kernel)
        bias = self.rng.normal(0, 0.1, oc).astype(np.float32)
        self.weights.append(numpy_helper.from_array(bias, f"{name}.bias"))
        edge, strides = [kernel // 2] * 4, [stride] * 2
        return self.node("Conv", name, x, weight, f"{name}.bias", pads=edge, strides=strides)

    def block(self, name: str, x: str, ic: int, oc: int) -> str:
        """Add a basic block."""
        stride = 1 if ic == oc else 2
        y = self.conv(f"{name}.conv1", x, ic, oc, 3, stride)
        y = self.conv(f"{name}.conv2", self.node("Relu", f"{name}.relu1", y), oc, oc, 3, 1)
        skip = x if ic == oc else self.conv(f"{name}.downsample.0", x, ic, oc, 1, stride)
        return self.node("Relu", f"{name}.relu", self.node("Add", f"{name}.add", y, skip))

    def model(self) -> Any:
        """Return the onnx.ModelProto."""
        shape = [1, 3, INPUT_PIXELS, INPUT_PIXELS]
        x = self.node("Relu", "relu", self.conv("conv1", "input", 3, CHANNELS[0], 7, 2))
        pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
        x = self.node("MaxPool", "maxpool", x, **pool)
        channels = CHANNELS[0]
        for stage, width in enumerate(CHANNELS, start=1):
            for index in range(2):
                x = self.block(f"layer{stage}.{index}", x, channels, width)
                channels = width
        x = self.node("Flatten", "flatten", self.node("GlobalAveragePool", "avgpool", x))
        weight = self.weight("fc.weight", CLASSES, CHANNELS[-1])
        x = self.node("Gemm", "logits", x, weight, transB=1)
        graph = helper.make_graph(
            self.nodes,
            "resnet18",
            [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info(x, TensorProto.FLOAT, [1, CLASSES])],
            self.weights,
        )
        opset = helper.make_opsetid("", 13)
        return helper.make_model(graph, opset_imports=[opset], ir_version=8)


@dataclass(frozen=True, slots=True)
class _Noise:
    """Images of noise, all different, drawn when they are used."""

    count: int
    height: int
    width: int

    def __len__(self) -> int:
        return self.count

    def load(self, index: int) -> Image.Image:
        shape = (self.height, self.width, 3)
        pixels = np.random.default_rng(index).integers(0, 256, shape, dtype=np.uint8)
        return Image.fromarray(pixels)

    def where(self, index: int) -> str:
        return f"noise {index}"


def _noise(count: int, shape: tuple[int, ...]) -> Dataset:
    preprocessing = Preprocessing.for_input(shape, ratio=1.0)
    source = _Noise(count, preprocessing.height, preprocessing.width)
    return Dataset(name="noise", source=source, preprocessing=preprocessing)


# ---- the same GEMM on machines of other operands ------------------------------------------------
#: Where its parts lie: bytes.
_UOPS, _WEIGHTS, _INPUTS, _OUTPUTS, _ARENA = 1 << 12, 1 << 20, 1 << 21, 3 << 20, 1 << 22
#: Pixels that share a weight: of ResNet-18's last stage, where loading weights counts most.
_SIDE, _KERNEL, _ROUNDS = 7, 3, 8


def _gemm_insns(config: VTAConfig) -> tuple[list[Insn], list[int], int]:
    """Return rounds of weights, inputs, GEMM and STORE; their micro-ops; GEMM steps of them all."""
    edge, taps = _SIDE + _KERNEL - 1, _KERNEL * _KERNEL
    blocks = min(config.wgt_depth // taps, config.inp_depth // edge**2)
    inp = [(u // taps) * edge * edge + u // 3 % 3 * edge + u % 3 for u in range(taps * blocks)]
    uops = [encode_uop(config, dst_idx=0, src_idx=s, wgt_idx=u) for u, s in enumerate(inp)]
    nest = {"iter_out": _SIDE, "iter_in": _SIDE, "dst_factor_out": _SIDE, "dst_factor_in": 1}
    steps = _SIDE * _SIDE * len(uops)

    def mem(opcode: Opcode, memory: Memory, address: int, count: int, **tokens: int) -> Insn:
        size = dram_elem_bytes(memory, config)
        fields = {"dram_base": address // size, "x_size": count, "x_stride": count, "y_size": 1}
        return Insn(opcode, {"memory_type": memory, **fields, **tokens})

    insns = [mem(Opcode.LOAD, Memory.UOP, _UOPS, len(uops))]
    for number in range(_ROUNDS):
        later, more = int(number > 0), int(number < _ROUNDS - 1)
        clear = {"uop_end": 1, "reset": 1, "pop_prev": 1, "pop_next": later}
        sources = {"src_factor_out": edge, "src_factor_in": 1, "uop_end": len(uops)}
        insns += [
            mem(Opcode.LOAD, Memory.WGT, _WEIGHTS, len(uops), pop_next=later),
            mem(Opcode.LOAD, Memory.INP, _INPUTS, blocks * edge * edge, push_next=1),
            Insn(Opcode.GEMM, {**nest, **clear}),
            Insn(Opcode.GEMM, {**nest, **sources, "push_prev": more, "push_next": 1}),
            mem(Opcode.STORE, Memory.OUT, _OUTPUTS, _SIDE * _SIDE, pop_prev=1, push_prev=1),
        ]
    return [*insns, Insn(Opcode.FINISH, {"pop_next": 1})], uops, steps * _ROUNDS


def gemm_step_ns(names: tuple[str, ...], repeats: int = 9) -> list[float]:
    """Run random numbers on machines in turns; return the median nanoseconds a GEMM step of each.

    Loads and stores are part of it: each weight is loaded for 49 steps.
    """
    sims = []
    for name in names:
        config = VTAConfig.load(name)
        insns, uops, steps = _gemm_insns(config)
        stream = b"".join(encode(insn, config) for insn in insns)
        sim = FSim(config, stream, arena=(_UOPS, _ARENA))
        sim.write(_UOPS, np.random.default_rng(0).integers(0, 256, _ARENA, dtype=np.uint8))
        sim.write(_UOPS, np.array(uops, "<u4"))
        sim.run()
        sims.append((sim, steps))
    times: list[list[float]] = [[] for _ in sims]
    for _ in range(repeats):
        for (sim, steps), each in zip(sims, times, strict=True):
            each.append(1e9 * _seconds(sim.run) / steps)
    return [statistics.median(each) for each in times]


# ---- measuring ----------------------------------------------------------------------------------
def _seconds(work: Callable[[], Any]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _rss_mib() -> float:
    """Return the largest resident size of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _alternate(
    networks: dict[str, Callable[[NDArray[np.float32]], Any]], images: Dataset
) -> dict[str, float]:
    """Run the networks in turns; return the median milliseconds per image of each."""
    times: dict[str, list[float]] = {name: [] for name in networks}
    for image in images:
        for name, network in networks.items():
            times[name].append(1e3 * _seconds(partial(network, image)))
    # The first image warms caches up.
    return {name: statistics.median(values[1:]) for name, values in times.items()}


def bench(model_name: str, config_name: str, images: int, calibration: int) -> list[str]:
    """Measure one model; return the lines to print.

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
    data = _noise(calibration, model.input_shape)
    calibrate_s = _seconds(lambda: backend.calibrate(data, lambda done, total, note="": None))
    compiled: list[Any] = []
    compile_s = _seconds(lambda: compiled.append(backend.compile("profiled_fused")))
    networks = {"fsim": compiled[0].networks()[0], "float32": OnnxRuntime(model.proto)}
    ms = _alternate(networks, _noise(images + 1, model.input_shape))
    ratio = ms["fsim"] / ms["float32"]
    stock_ns, narrow_ns = gemm_step_ns(("default", "w4"))
    rows = [
        ("float32, ONNX Runtime", f"{ms['float32']:.1f} ms per image", ""),
        ("fsim", f"{ms['fsim']:.1f} ms per image", ""),
        ("fsim / float32", f"{ratio:.2f}", f"<= {FSIM_RATIO_LIMIT:.0f}"),
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
        ("peak memory", f"{_rss_mib():.0f} MiB", f"<= {RSS_LIMIT_MIB:.0f} MiB"),
    ]
    head = f"{model.name} on {config.name}, one thread"
    return [head, *(f"  {name:<28}{value:>20}   {limit}".rstrip() for name, value, limit in rows)]


def main(argv: list[str] | None = None) -> int:
    """Parse the options, measure and print; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="", help="name or FILE.onnx[.xz]; default: ResNet-18")
    parser.add_argument("--config", default="default", help="preset or vta_config.json")
    parser.add_argument("--images", type=int, default=20, help="images to time (default 20)")
    parser.add_argument("--calibration", type=int, default=125, help="images (default 125)")
    options = parser.parse_args(argv)
    os.environ["TVM_NUM_THREADS"] = "1"  # read when its threads start
    try:
        with tempfile.TemporaryDirectory() as folder:
            name = options.model
            if not name:
                name = str(Path(folder) / "resnet18-random.onnx")
                onnx.save(_ResNet18().model(), name)
            lines = bench(name, options.config, options.images, options.calibration)
    except FlowError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    print("\n".join(lines))
    return 0


if __name__ == "__main__":
    sys.exit(main())
