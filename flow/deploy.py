"""The main job: a model in, a report out. What the subcommands do, without a terminal."""

from __future__ import annotations

import contextlib
import filecmp
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias, get_args

import flow.sim
from flow.compiler.tiling import Objective
from flow.datasets import Dataset, image_folder
from flow.evaluate import Logits, Network, OnnxRuntime, measure, run_all
from flow.files import check_writable
from flow.findings import Findings
from flow.importer import ImportedModel
from flow.latency import Latency
from flow.models import (
    DEFAULT_MODEL,
    MIRRORS,
    bundled_data,
    cache_folder,
    load_model,
    preprocessing_of,
)
from flow.onnx_file import Limits
from flow.report import (
    Exactness,
    LayerCounters,
    Placement,
    Report,
    Skipped,
    write_report,
)
from flow.stages import Progress, Stages
from flow.tracebacks import explain, reason_of, worst
from relay_passes.choices import Choice
from relay_passes.plan import QuantPlan
from vta_config.errors import (
    ArtifactError,
    CalibrationError,
    ConfigError,
    DriverError,
)
from vta_config.hardware import VTAConfig

Engine: TypeAlias = Literal["fsim", "tsim", "oracle", "driver"]
ENGINES: Final = ("fsim", "tsim", "oracle", "driver")
OBJECTIVES: Final[tuple[Objective, ...]] = get_args(Objective)
#: Quantized variants in the order of the report.
VARIANTS: Final = (
    "stock_relay",
    "single_scale",
    "profiled",
    "profiled_fused",
    "per_tensor",
    "best",
    "dyadic",
    "w4a8",
)
#: What can be asked for by name: per_channel needs a machine with the capability shr_register.
KNOWN_VARIANTS: Final = (*VARIANTS, "per_channel")
BEST_VARIANT: Final = "best"
#: Variants that have a quantization plan: not stock Relay's, which is another quantization.
PLANNED_VARIANTS: Final = KNOWN_VARIANTS[1:]
#: What a user's own model is measured in, unless variants are named: of those that learn, which
#: takes about a minute for a ResNet-18, the best alone.
MAIN_VARIANTS: Final = ("stock_relay", "single_scale", "profiled", "profiled_fused", BEST_VARIANT)
#: The variant whose program is deployed and told in full: the first of these that there is.
PREFERENCE: Final = (
    BEST_VARIANT,
    "per_tensor",
    "dyadic",
    "per_channel",
    "profiled_fused",
    "profiled",
    "single_scale",
    "stock_relay",
    "w4a8",
)
#: Variants whose scales do not depend on calibration images.
UNCALIBRATED: Final = frozenset({"stock_relay", "single_scale"})
#: Images on which all engines are compared tensor by tensor: of the deployed variant, and of each
#: other one.
EXACT_IMAGES: Final = 20
OTHERS_EXACT_IMAGES: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user asks for.

    Parameters
    ----------
    model : str
        Name or ``.onnx[.xz]`` file.
    images, calibration : Path, optional
        Folders of images; the model's own images where it brings some.
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
        `MAIN_VARIANTS` for others.
    exact_images : int
        Images for the comparison of engines in the deployed variant; the others get at most
        `OTHERS_EXACT_IMAGES`. 0: none.
    mirrors : tuple of str
        Base URLs of downloads.
    cache : Path, optional
        Folder of downloads and schedules; the user's cache folder by default.
    search : bool
        Search schedules with the cycle-level simulator instead of trusting the cost model.
    objective : {"balanced", "latency"}
        What the forms of inputs are chosen by: cycles and bytes, or cycles alone.
    check_import : bool
        Compare the imported float graph with ONNX Runtime before anything else.
    model_limit : float
        Multiplies what a model may cost; see `Limits`.

    Raises
    ------
    ConfigError
        When engine and driver do not go together.
    """

    model: str = DEFAULT_MODEL
    images: Path | None = None
    calibration: Path | None = None
    config: str = "default"
    engine: Engine = "fsim"
    driver: Path | None = None
    driver_timeout_s: float | None = None
    limit: int | None = None
    seed: int = 0
    variants: tuple[str, ...] | None = None
    exact_images: int = EXACT_IMAGES
    mirrors: tuple[str, ...] = MIRRORS
    cache: Path | None = None
    search: bool = False
    objective: Objective = "balanced"
    check_import: bool = True
    model_limit: float = 1.0

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
                "must be another library than this package's simulator",
                got=str(self.driver),
                hint="use --engine fsim or --engine tsim",
            )


def _is_own_simulator(library: Path) -> bool:
    """Tell whether a library is ours: loading it a second time would end the process."""
    from flow.sim.core_library import LIBRARY  # brings in tvm_ffi, which takes time to import

    ours = Path(flow.sim.__file__).parent / LIBRARY
    same = ours.is_file() and filecmp.cmp(ours, library, shallow=False)
    return same or library.resolve().name == LIBRARY


def check_driver(library: Path, timeout_s: float | None = None) -> None:
    """Load a driver library in a process of its own and open its device, before any long work.

    Raises
    ------
    ArtifactError
        When it is no library of this machine's, or lacks a driver function.
    DriverError
        When it has no device, crashes, or takes longer than `timeout_s`.
    CapacityError
        When its memory cannot be used.
    """
    from flow.sim.core_library import core_function  # as above

    core_function("vta.driver.check")(str(library.absolute()), timeout_s or 0.0)


class Compiled(Protocol):
    """One variant, ready to run."""

    @property
    def layers(self) -> tuple[LayerCounters, ...]:
        """Return the counters of every layer for one image."""
        ...

    @property
    def choice(self) -> Choice | None:
        """Return which steps of the variant were kept."""
        ...

    @property
    def placement(self) -> Placement:
        """Return what runs where."""
        ...

    @property
    def latency(self) -> Latency | None:
        """Return how long the machine takes for one image; None when it runs nothing."""
        ...

    @property
    def requantization_error(self) -> float:
        """Return the largest |used / meant - 1| of any ratio of scales."""
        ...

    @property
    def plan(self) -> QuantPlan | None:
        """Return the integers that the scales became; None for stock Relay's quantization."""
        ...

    def networks(self) -> Sequence[Network]:
        """Return the engine, once for each thread that may run one."""
        ...

    def verify(self, images: Dataset, progress: Progress) -> Exactness:
        """Compare all engines bit for bit, tensor by tensor."""
        ...

    def draw(self, directory: Path) -> tuple[Path, ...]:
        """Write a trace and, where possible, pictures of the time; return the files."""
        ...

    def save(self, path: Path) -> tuple[Path, ...]:
        """Write the program file, or one for each program, and return them."""
        ...


class Backend(Protocol):
    """The passes and the compiler, for one model and one machine."""

    def calibrate(self, images: Dataset, progress: Progress) -> None:
        """Profile the float model."""
        ...

    def quantize(self, variant: str) -> None:
        """Quantize by one of `VARIANTS`; `compile` does so too, but learning takes long."""
        ...

    def plan(self, variant: str) -> QuantPlan | None:
        """Quantize as `quantize` does and return the plan; None for stock Relay's."""
        ...

    def compile(self, variant: str) -> Compiled:
        """Quantize, unless that was the last thing done, and compile one of `VARIANTS`."""
        ...


class BackendFactory(Protocol):
    """Makes a backend."""

    def __call__(self, model: ImportedModel, config: VTAConfig, options: Options) -> Backend:
        """Start on `model` for the machine `config`."""
        ...


def schedule_cache(folder: Path | None) -> Path:
    """Return the file that found schedules are kept in."""
    return cache_folder(folder) / "schedules.json"


def open_backend(model: ImportedModel, config: VTAConfig, options: Options) -> Backend:
    """Return the real backend: flow.pipeline."""
    from flow.backend import PipelineBackend  # brings in TVM, which takes seconds to import

    return PipelineBackend(
        model,
        config,
        engine=options.engine,
        driver=options.driver,
        driver_timeout_s=options.driver_timeout_s,
        schedules=schedule_cache(options.cache) if options.search else None,
        objective=options.objective,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A model with its machine and images, before anything is quantized.

    Parameters
    ----------
    model : ImportedModel
    machine : VTAConfig
    backend : Backend
    evaluation : Dataset, optional
        None where nothing is measured.
    calibration : Dataset, optional
        None where no variant needs it.
    """

    model: ImportedModel
    machine: VTAConfig
    backend: Backend
    evaluation: Dataset | None
    calibration: Dataset | None


def open_session(
    options: Options,
    stages: Stages,
    *,
    needs_images: bool = True,
    factory: BackendFactory = open_backend,
) -> Session:
    """Load model, machine and images, and check them before any long work.

    Parameters
    ----------
    options : Options
        What the user asks for.
    stages : Stages
        Measures and shows.
    needs_images : bool
        Whether evaluation images are used.
    factory : callable, optional
        Makes the backend.

    Raises
    ------
    FlowError
        When something of it cannot be used.
    """
    machine = VTAConfig.load(options.config)
    machine.check_runs()
    if options.driver is not None:
        check_driver(options.driver, options.driver_timeout_s)
    if options.search:
        check_writable(schedule_cache(options.cache).parent, hint="choose another --cache")
    with stages("import", f"importing {options.model}") as progress:
        model = load_model(
            options.model,
            mirrors=options.mirrors,
            cache=options.cache,
            progress=progress,
            check=options.check_import,
            limits=Limits(factor=options.model_limit),
        )
        evaluation, calibration = open_data(options, model, needs_images=needs_images)
        backend = factory(model, machine, options)
    return Session(
        model=model,
        machine=machine,
        backend=backend,
        evaluation=evaluation,
        calibration=calibration,
    )


def open_data(
    options: Options, model: ImportedModel, *, needs_images: bool
) -> tuple[Dataset | None, Dataset | None]:
    """Open evaluation and calibration images; None for those that nothing needs.

    Raises
    ------
    CalibrationError
        When a folder is needed and not given, or cannot be used.
    """
    own = bundled_data(model)
    evaluation, calibration = own if own is not None else (None, None)
    preprocessing = preprocessing_of(model)
    if options.images is not None and needs_images:
        evaluation = image_folder(options.images, preprocessing, classes=model.classes)
    if options.calibration is not None:
        calibration = image_folder(options.calibration, preprocessing, labelled=False)
    if evaluation is None and needs_images:
        raise _missing("--images", model)
    if UNCALIBRATED.issuperset(chosen_variants(options, model)):
        calibration = None
    elif calibration is None:
        raise _missing("--calibration", model)
    if evaluation is not None:
        evaluation = evaluation.take(options.limit, seed=options.seed) if needs_images else None
    return evaluation, calibration


def chosen_variants(options: Options, model: ImportedModel) -> tuple[str, ...]:
    """Return the variants asked for; see `Options`."""
    if options.variants is not None:
        return options.variants
    return VARIANTS if bundled_data(model) is not None else MAIN_VARIANTS


def _missing(option: str, model: ImportedModel) -> CalibrationError:
    return CalibrationError(
        option,
        f"must be given: {model.name} brings no images of its own",
        hint=f"give {option} DIR",
    )


def deploy(
    options: Options,
    stages: Stages,
    *,
    factory: BackendFactory = open_backend,
    folder: Path | None = None,
) -> tuple[Report, Compiled]:
    """Run the whole flow; return what was found, and the variant that is deployed.

    A variant that fails is left out, with the reason, and the others go on; where the driver of
    engine ``driver`` fails, nothing more is tried.

    Parameters
    ----------
    options : Options
        What the user asks for.
    stages : Stages
        Measures and shows.
    factory : callable, optional
        Makes the backend.
    folder : Path, optional
        Where a report of the variants so far is written after each but the last, so that what
        was found is there if the run is stopped; and tracebacks of errors that nobody expected.

    Raises
    ------
    FlowError
        When the input cannot be deployed; of a variant only when there is no other that can.
    InternalError
        The same, where an error that nobody expected is a reason.
    """
    session = open_session(options, stages, factory=factory)
    data = session.evaluation
    assert data is not None
    reference = _reference_logits(session.model, data, stages)
    calibrate(session, stages)
    variants = chosen_variants(options, session.model)
    found = Findings(
        session=session,
        options=options,
        stages=stages,
        reference=reference,
        preference=tuple(sorted(variants, key=PREFERENCE.index)),
        few_images=OTHERS_EXACT_IMAGES,
        metrics=[measure("float32", reference, reference, data.targets)],
    )
    failures: list[Exception] = []
    for index, variant in enumerate(variants):
        try:
            found.add(variant)
        except DriverError as error:
            failures.append(error)
            found.stopped = str(error)
        except Exception as error:
            failures.append(explain(error, folder, where=variant))
        else:
            if folder is not None and index + 1 < len(variants):
                with contextlib.suppress(ArtifactError):  # the last one tells of a full disk
                    write_report(found.report(variants[index + 1 :]), folder)
            continue
        found.skipped.append(Skipped(variant=variant, reason=reason_of(failures[-1])))
        if found.stopped:
            later = variants[index + 1 :]
            found.skipped += [Skipped(variant=v, reason="the driver failed before") for v in later]
            break
    if found.deployed is None:
        raise worst(failures)
    found.compare_deployed(folder)
    return found.report(), found.deployed.compiled


def plan(options: Options, stages: Stages) -> QuantPlan:
    """Quantize by the only variant of the options and return its plan; one of `PLANNED_VARIANTS`.

    Raises
    ------
    FlowError
        When the model cannot be quantized.
    """
    assert options.variants is not None
    (variant,) = options.variants
    session = open_session(options, stages, needs_images=False)
    calibrate(session, stages)
    with stages("quantize", f"quantizing {variant}"):
        found = session.backend.plan(variant)
    assert found is not None, variant
    return found


def calibrate(session: Session, stages: Stages) -> None:
    """Profile the float model on the calibration images, if a variant needs them."""
    images = session.calibration
    if images is None:
        return
    with stages("calibrate", "calibrating") as progress:
        session.backend.calibrate(images, progress)


def _reference_logits(model: ImportedModel, data: Dataset, stages: Stages) -> Logits:
    with stages("float32", "running float32 on ONNX Runtime") as progress:
        return run_all(OnnxRuntime(model.proto), data, classes=model.classes, progress=progress)
