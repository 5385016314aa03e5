"""A backend without compiler: float32 logits, rounded, stand for the quantized ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.data.datasets import ArraySource, Dataset
from flow.data.models import preprocessing_of
from flow.frontend.importer import ImportedModel
from flow.options import (
    UNCALIBRATED,
    Options,
)
from flow.results.details.types import (
    Details,
    GraphNode,
    GraphTensor,
    Histogram,
    Histograms,
    NetworkGraph,
    ProgramMemory,
    Region,
    Scratchpad,
)
from flow.results.evaluate import Network, OnnxRuntime
from flow.results.latency import Latency
from flow.results.layer_facts import LayerFacts
from flow.results.placement import Placement
from flow.results.report import Exactness, LayerCounters
from flow.sim.timing_report import LayerTiming
from flow.stages import Progress, Stages
from relay_passes.integers.plan import LayerPlan, QuantPlan
from relay_passes.params import QuantParams, Requant
from relay_passes.partition.host_work import Fallback
from relay_passes.variants import ZERO_SHOT_OF
from vta_config.errors import (
    UnsupportedModelError,
)
from vta_config.hardware import VTAConfig

#: PostOp of the rounding, by variant.
STEPS = {
    "stock_relay": 3.0,
    "single_scale": 4.0,
    "profiled": 0.5,
    "profiled_fused": 0.25,
    "per_tensor": 0.2,
    "best": 0.125,
    "dyadic": 0.1,
    "w4a8": 1.0,
    "mixed": 0.15,
    "best_zero_shot": 0.16,
    "w4a8_zero_shot": 1.1,
}


def layer_timing(**values: Any) -> LayerTiming:
    """Return the timing of a layer of which reports show only some numbers."""
    none = ("gemm_steps", "inp_bytes", "wgt_bytes", "acc_bytes", "uop_bytes", "out_bytes", "insns")
    return LayerTiming(**(dict.fromkeys(none, 0) | {"path": {}} | values))


#: One layer, one number of each kind.
PLAN = QuantPlan(
    tensors={"data": QuantParams(scale=(0.5,)), "conv1": QuantParams(scale=(0.25,))},
    weights={"conv1.acc": QuantParams(scale=(0.125, 0.0625), bits=4, granularity="block")},
    layers=(
        LayerPlan(
            name="conv1",
            inputs=("data",),
            operators=("conv1.acc", "conv1"),
            output="conv1",
            requant=Requant(
                multiplier=(1, 1), shift=(2, 3), ratio=(Fraction(1, 4), Fraction(1, 8))
            ),
        ),
    ),
)


#: The details of one layer, without its images.
DETAILS = Details(
    graph=NetworkGraph(
        nodes=(
            GraphNode(
                name="conv1", operator="conv2d", place="vta", program="vta_0",
                inputs=("data",), output="conv1",
            ),
        ),
        tensors=(
            GraphTensor(name="data", shape=(1, 3, 8, 8), dtype="int8", bits=8, scale=(0.5,)),
            GraphTensor(name="conv1", shape=(1, 8, 8, 8), dtype="int8", bits=8, scale=(0.25,)),
        ),
        outputs=("conv1",),
    ),
    memory=(
        ProgramMemory(
            symbol="vta_0", layers=("conv1",), total_bytes=4096, activation_bytes=1024,
            constant_bytes=3072, insn_bytes=160,
            regions=(
                Region(name="conv1", kind="output", address=0, size_bytes=512, first=0, last=1),
            ),
            scratchpads=(Scratchpad(name="inp", capacity_bytes=1024, layer_bytes=(512,)),),
        ),
    ),
    histograms=Histograms(
        activations=(
            Histogram(
                name="data", low=-1.0, high=1.0, counts=(1, 2), bits=8, scale=(0.5,),
                zero_point=0, qmin=-127, qmax=127,
            ),
        ),
        weights=(),
    ),
)  # fmt: skip


class FakeCompiled:
    """Logits of ONNX Runtime rounded to a step."""

    latency = Latency(
        timing_profile="chisel",
        cycles=1234,
        ms=0.01234,
        layers=(
            layer_timing(
                name="conv1",
                cycles=1234,
                utilization=7 / 1234,
                bound="load",
                inp_bytes=4096,
                floor=512,
                full_floor=1000,
            ),
        ),
    )
    requantization_error = 2e-8
    choice = None
    plan = PLAN
    bits = None
    deviation = None
    artefact_note = ""
    placement = Placement(
        programs=2,
        crossing_bytes=4096,
        macs=1000,
        vta_macs=900,
        fallbacks=(Fallback(name="odd", operator="nn.conv2d", reason="groups must be 1, got 2"),),
    )

    def __init__(self, model: ImportedModel, step: float, mismatches: int) -> None:
        self._network = OnnxRuntime(model.proto)
        self._step = step
        self._mismatches = mismatches

    def fail(self, place: str) -> None:
        """Raise what the test wants at this place."""

    @property
    def layers(self) -> tuple[LayerCounters, ...]:
        self.fail("layers")
        return (LayerCounters(name="conv1", kind="conv2d", counters={"gemm_ops": 7}),)

    def describers(self) -> Mapping[str, Callable[[], Any]]:
        def failing(name: str) -> Any:
            self.fail(name)
            return getattr(DETAILS, name)

        return {name: partial(failing, name) for name in ("graph", "memory", "histograms")}

    def networks(self) -> Sequence[Network]:
        def rounded(image: NDArray[np.float32]) -> NDArray[np.float32]:
            self.fail("run")
            logits = self._network(image)
            return np.float32(self._step) * np.floor(logits / np.float32(self._step) + 0.5)

        return [rounded, rounded]

    def kept_rows(self, data: Dataset) -> None:
        return None

    def elsewhere(self, data: Dataset) -> None:
        return None

    def verify(self, images: Dataset, progress: Progress, *, anew: bool = False) -> Exactness:
        progress(len(images), len(images))
        self.fail("verify")
        count = self._mismatches
        first = "conv1 on fsim" if count else ""
        return Exactness(images=len(images), tensors=len(images), mismatches=count, first=first)

    def compare_layers(self, images: Dataset, progress: Progress) -> tuple[LayerFacts, ...]:
        progress(len(images), len(images))
        return (
            LayerFacts(
                name="conv1", kind="conv2d", tensor="conv1", sqnr_db=20.0, centred_sqnr_db=19.0,
                weight_bits=4, activation_bits=8, scale=0.25, zero_point=0, cycles=1234, macs=900,
                weight_bytes=18,
            ),
        )  # fmt: skip

    def draw(self, directory: Path) -> tuple[Path, ...]:
        self.fail("draw")
        path = directory / "trace.json"
        path.write_text("{}")
        return (path,)

    def save(self, path: Path) -> tuple[Path, ...]:
        path.write_bytes(b"program")
        return (path,)

    def save_artefact(self, folder: Path) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "manifest.json").write_text("{}")
        return self.artefact_note


class FakeBackend:
    """Calibration that counts, compilation that rounds."""

    mismatches = 0
    #: Variants that do not compile; "interrupt": as if the user stopped it.
    broken: frozenset[str] = frozenset()
    #: What is raised, by variant, and where: in `quantize`, `compile`, `run`, `verify` or `layers`.
    faults: Mapping[str, BaseException] = {}
    place = "compile"
    #: The variants whose engines differ; all where empty.
    differing: frozenset[str] = frozenset()

    def __init__(self, model: ImportedModel, config: VTAConfig, options: Options) -> None:
        self._model = model
        self._images = 0

    def calibrate(self, images: Dataset, progress: Progress, *, learns: bool = False) -> None:
        for self._images, _ in enumerate(images, start=1):
            progress(self._images, len(images))

    def prepare(self, variant: str, stages: Stages) -> Dataset | None:
        """Take images of noise for distilled ones."""
        if variant not in ZERO_SHOT_OF:
            return None
        self._fail(variant, "prepare")
        noise = np.random.default_rng(0).integers(0, 256, (7, 8, 8), np.uint8)
        return Dataset(
            name=f"distilled from {self._model.name}",
            source=ArraySource(noise),
            preprocessing=preprocessing_of(self._model),
        )

    def quantize(self, variant: str, progress: Progress | None = None) -> None:
        """Do nothing else: the fake rounds logits."""
        self._fail(variant, "quantize")

    def _fail(self, variant: str, place: str) -> None:
        if variant in self.faults and place == self.place:
            raise self.faults[variant]

    def plan(self, variant: str) -> QuantPlan | None:
        self._fail(variant, "quantize")
        return PLAN

    def integer_module(self, variant: str) -> Any:
        """Return nothing: there are no integers."""

    def deviation(self, variant: str) -> None:
        """Return nothing: no variant keeps the integers of a file."""

    def walk(self, variant: str, after: Callable[[str, Any], None], *, stop: str | None) -> None:
        """Tell of stages that made a plan."""
        from flow.pipeline import STAGES  # brings in TVM, which takes seconds to import

        names = [stage.name for stage in STAGES]
        for name in names[: names.index(stop) + 1] if stop is not None else names:
            after(name, PLAN)

    def compile(self, variant: str) -> FakeCompiled:
        self._fail(variant, "compile")
        assert self._images or variant in UNCALIBRATED
        if variant in self.broken:
            raise UnsupportedModelError("conv1", "must be something else", hint="change it")
        if "interrupt" in self.broken:
            raise KeyboardInterrupt
        differs = not self.differing or variant in self.differing
        compiled = FakeCompiled(self._model, STEPS[variant], self.mismatches if differs else 0)
        compiled.fail = partial(self._fail, variant)
        return compiled


class Recorder:
    """A display that writes down what it is told."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.moves: list[tuple[int, int]] = []
        self.notes: list[str] = []
        self.open_bars = 0

    def open(self, text: str) -> Progress:
        self.texts.append(text)
        self.open_bars += 1

        def move(done: int, total: int, note: str = "") -> None:
            self.moves.append((done, total))
            self.notes.append(note)

        return move

    def close(self) -> None:
        self.open_bars -= 1


def call(*args: object) -> int:
    """Run a command in this process."""
    from flow import cli

    return cli.main([str(arg) for arg in args])
