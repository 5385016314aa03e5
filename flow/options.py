"""What the user asks for."""

from __future__ import annotations

import filecmp
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

import flow.sim
from flow.bit_request import BitRequest
from flow.compiler.shapes import Objective
from flow.data.models import DEFAULT_MODEL, MIRRORS
from flow.input_request import InputRequest
from flow.learn_request import LearnRequest
from flow.system.json_values import json_value
from flow.worker_request import ALONE, Workers
from relay_passes.calibration.distill_options import DistillOptions
from relay_passes.learning.options import EFFORTS
from relay_passes.scales.kept import Qdq
from relay_passes.variants import STOCK_RELAY, TABLE
from vta_config.errors import ConfigError

Engine: TypeAlias = Literal["fsim", "tsim", "oracle", "driver"]
#: In place of a folder of calibration images: distill them from the model.
ZERO_SHOT: Final = "zero-shot"
ENGINES: Final = ("fsim", "tsim", "oracle", "driver")
OBJECTIVES: Final[tuple[Objective, ...]] = get_args(Objective)
QDQ_WAYS: Final[tuple[Qdq, ...]] = get_args(Qdq)
#: Quantized variants in the order of the report.
VARIANTS: Final = tuple(v.name for v in TABLE if v.role == "report")
#: What can be asked for by name: some need a machine with capabilities.
KNOWN_VARIANTS: Final = (*VARIANTS, *(v.name for v in TABLE if v.role in ("extra", "kept")))
#: The variant whose program is deployed and told in full: the first of these that there is.
PREFERENCE: Final = tuple(
    v.name for v in sorted(TABLE, key=lambda v: v.rank) if v.name in KNOWN_VARIANTS
)
BEST_VARIANT: Final = PREFERENCE[0]
#: Variants that have a quantization plan: not stock Relay's, which is another quantization.
PLANNED_VARIANTS: Final = tuple(v for v in KNOWN_VARIANTS if v != STOCK_RELAY)
#: What a user's own model is measured in, unless variants are named: of those that learn, which
#: takes about a minute for a ResNet-18, the best alone.
MAIN_VARIANTS: Final = tuple(v.name for v in TABLE if v.main)
#: Variants that need no calibration images: they have none, or distill their own.
UNCALIBRATED: Final = frozenset(
    v.name for v in TABLE if v.name in KNOWN_VARIANTS and not v.calibrated
)
#: The variant of an estimate, unless another is named: it neither learns nor searches.
ESTIMATED_VARIANT: Final = "profiled_fused"
#: Images on which all engines are compared tensor by tensor: of the deployed variant, and of each
#: other one.
EXACT_IMAGES: Final = 20
OTHERS_EXACT_IMAGES: Final = 4
#: Options that results do not depend on.
NOT_REPORTED: Final = frozenset({"mirrors", "cache", "keep_results", "workers"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user asks for.

    Parameters
    ----------
    model : str
        Name or ``.onnx[.xz]`` file.
    images, calibration : Path, optional
        Folders of images; the model's own images where it brings some.
    zero_shot : bool
        Whether calibration images are distilled from the model; then no folder is given.
    distill : DistillOptions
        How they are, for this and for variants that are calibrated so.
    learn : LearnRequest
        How long variants learn whose weights are learned block by block.
    config : str
        Preset or JSON file of the machine.
    engine : {"fsim", "tsim", "oracle", "driver"}
        What runs the programs.
    driver : Path, optional
        Shared library with the original VTA driver functions, for engine ``driver``.
    driver_timeout_s : float, optional
        What one call of the library may take; by default any time.
    limit : int, optional
        Evaluate at most so many images, drawn by `seed`.
    seed : int
        Of the draw.
    variants : tuple of str, optional
        Quantized variants, of `VARIANTS`. By default all for a model that brings its images,
        `MAIN_VARIANTS` for others, and the model's own integers of one that is quantized already.
    one_variant : bool
        Whether one is enough where none is named: the best, or the model's own integers.
    qdq : {"keep", "requantize"}
        What becomes of a model that is quantized already: its integers are kept, or its weights are
        floats like others, which every variant quantizes again.
    exact_images : int
        Images for the comparison of engines in the deployed variant; the others get at most
        `OTHERS_EXACT_IMAGES`. 0: none.
    mirrors : tuple of str
        Base URLs of downloads.
    cache : Path, optional
        Folder of downloads, schedules and results; the user's cache folder by default.
    keep_results : bool
        Whether what takes long to compute is kept in that folder, and taken from there.
    search : bool
        Search schedules with the cycle-level simulator instead of trusting the cost model.
    objective : {"balanced", "latency"}
        What the input layouts are chosen by: cycles and bytes, or cycles alone.
    check_import : bool
        Compare the imported float graph with ONNX Runtime before anything else.
    model_limit : float
        Multiplies what a model may cost; see `Limits`.
    bits : BitRequest
        What the bits of the variant `mixed` are chosen by.
    request : InputRequest
        What the user says of the model's input, beside the file that may lie beside the model.
    workers : Workers
        On which cores or computers images are run.

    Raises
    ------
    ConfigError
        When engine and driver do not go together.
    """

    model: str = DEFAULT_MODEL
    images: Path | None = None
    calibration: Path | None = None
    zero_shot: bool = False
    distill: DistillOptions = field(default_factory=DistillOptions)
    learn: LearnRequest = field(default_factory=LearnRequest)
    config: str = "default"
    engine: Engine = "fsim"
    driver: Path | None = None
    driver_timeout_s: float | None = None
    limit: int | None = None
    seed: int = 0
    variants: tuple[str, ...] | None = None
    one_variant: bool = False
    qdq: Qdq = "keep"
    exact_images: int = EXACT_IMAGES
    mirrors: tuple[str, ...] = MIRRORS
    cache: Path | None = None
    keep_results: bool = True
    search: bool = False
    objective: Objective = "balanced"
    check_import: bool = True
    model_limit: float = 1.0
    bits: BitRequest = field(default_factory=BitRequest)
    request: InputRequest = field(default_factory=InputRequest)
    workers: Workers = ALONE

    def __post_init__(self) -> None:
        """Check what does not need the model."""
        if (self.engine == "driver") != (self.driver is not None):
            raise ConfigError(
                "--driver",
                "must be given with --engine driver, and only then",
                got=f"--engine {self.engine}, --driver {self.driver or 'missing'}",
                hint="give both or none",
            )
        if self.driver_timeout_s is not None and self.driver is None:
            raise ConfigError(
                "--driver-timeout",
                "must be given with --engine driver",
                got=f"--engine {self.engine}",
                hint="leave it out",
            )
        if self.driver is not None and self.workers.several:
            raise ConfigError(
                "--engine driver",
                "must run in one process: there is one device",
                got="--jobs or --cluster",
                hint="leave it out",
            )
        if self.driver is not None and not self.driver.is_file():
            raise ConfigError(
                "--driver",
                "must be a shared library",
                got=f"{self.driver}, which is missing",
                hint="check the path",
            )
        if self.driver is not None and _is_own_simulator(self.driver):
            raise ConfigError(
                "--driver",
                "must not be this package's own simulator",
                got=str(self.driver),
                hint="use --engine fsim or --engine tsim",
            )

    def to_json(self) -> dict[str, Any]:
        """Return what results depend on as JSON values, by field; not where downloads are kept."""
        values: dict[str, Any] = json_value(self, without=NOT_REPORTED)
        return values

    @property
    def seeds(self) -> dict[str, int]:
        """Return the seeds of what is drawn at random: images, distillation, learning."""
        learn = EFFORTS[self.learn.effort].seed
        return {"images": self.seed, "distill": self.distill.seed, "learn": learn}


def _is_own_simulator(library: Path) -> bool:
    """Tell whether a library is ours: loading it a second time would end the process."""
    from flow.sim.core_library import LIBRARY  # brings in tvm_ffi, which takes time to import

    ours = Path(flow.sim.__file__).parent / LIBRARY
    same = ours.is_file() and filecmp.cmp(ours, library, shallow=False)
    return same or library.resolve().name == LIBRARY
