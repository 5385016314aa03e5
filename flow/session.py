"""A model with its machine and images, and what runs it: before anything is quantized."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final, Protocol

from flow.cache.images import image_digests
from flow.cache.keys import key_of
from flow.cache.rows import KeptRows
from flow.cache.store import LEARNED, Cache
from flow.data.datasets import Dataset, image_folder
from flow.data.models import (
    bundled_data,
    bundled_view,
    cache_folder,
    load_model,
    picture_preprocessing,
    request_of,
)
from flow.frontend.importer import ImportedModel, MissingShapeError
from flow.frontend.onnx_file import Limits
from flow.image_ranges import SentFloat, rows_elsewhere, start_float
from flow.options import BEST_VARIANT, MAIN_VARIANTS, UNCALIBRATED, VARIANTS, ZERO_SHOT, Options
from flow.parallel.run import check_cluster
from flow.results.bit_choice import BitChoice
from flow.results.evaluate import Elsewhere, Later, Logits, Network, OnnxRuntime, Rows, run_all
from flow.results.explanation import Explanation
from flow.results.latency import Latency
from flow.results.layer_facts import LayerFacts
from flow.results.placement import Placement
from flow.results.report import Exactness, LayerCounters
from flow.stages import Progress, Stages
from flow.system.files import check_writable
from flow.worker_request import ALONE, Workers
from relay_passes.integers.plan import QuantPlan
from relay_passes.load_tvm import load_tvm
from relay_passes.scales.kept import Deviation
from relay_passes.selection.choices import Choice
from relay_passes.variants import KEEP, KEPT, RECIPES, ZERO_SHOT_OF
from vta_config.errors import CalibrationError
from vta_config.hardware import VTAConfig

if TYPE_CHECKING:
    from flow.compiler.search import Compiling

#: Options that may be missing.
SHAPE_OPTION: Final = "--input-shape"
IMAGES_OPTION: Final = "--images"
CALIBRATION_OPTION: Final = "--calibration"


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
    from flow.sim.core_library import core_function  # brings in tvm_ffi, which takes time

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
    def bits(self) -> BitChoice | None:
        """Return which bits each layer got, and why; None where they were not chosen."""
        ...

    @property
    def deviation(self) -> Deviation | None:
        """Return how far it is from the integers of the file; None unless it keeps them."""
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

    def describers(self) -> Mapping[str, Callable[[], Any]]:
        """Return what makes parts of the details of a report, by their names."""
        ...

    def networks(self) -> Sequence[Network]:
        """Return the engine, once for each thread that may run one."""
        ...

    def kept_rows(self, data: Dataset) -> Rows | None:
        """Return what keeps the engine's results on these images; None where nothing does."""
        ...

    def elsewhere(self, data: Dataset) -> Elsewhere | None:
        """Return what runs the engine on other cores or computers; None where it runs here."""
        ...

    def verify(self, images: Dataset, progress: Progress, *, anew: bool = False) -> Exactness:
        """Compare all engines bit for bit, tensor by tensor.

        Images on which the same programs were equal before count without being run again, unless
        `anew` says otherwise.
        """
        ...

    def compare_layers(self, images: Dataset, progress: Progress) -> tuple[LayerFacts, ...]:
        """Compare each layer's tensor with float32; return these and other facts about layers."""
        ...

    def explain(self, stages: Stages, layer: str = "") -> Explanation:
        """Say what bounds it, or one of its layers, and what would help; see `flow.explain`."""
        ...

    def draw(self, directory: Path) -> tuple[Path, ...]:
        """Write a trace and, where possible, plots of the timing; return the files."""
        ...

    def save(self, path: Path) -> tuple[Path, ...]:
        """Write the program file, or one for each program, and return them."""
        ...

    def save_artefact(self, folder: Path) -> str:
        """Write the folder that can be deployed; return what is missing in it, "" for nothing."""
        ...


class Backend(Protocol):
    """The passes and the compiler, for one model and one machine."""

    def calibrate(self, images: Dataset, progress: Progress, *, learns: bool = False) -> None:
        """Profile the float model; with `learns` also for variants whose weights learn."""
        ...

    def prepare(self, variant: str, stages: Stages) -> Dataset | None:
        """Calibrate a variant of `ZERO_SHOT_OF`; return the images, None for other variants."""
        ...

    def quantize(self, variant: str, progress: Progress | None = None) -> None:
        """Quantize by one of `VARIANTS`; `compile` does so too, but learning takes long."""
        ...

    def plan(self, variant: str) -> QuantPlan | None:
        """Quantize as `quantize` does and return the plan; None for stock Relay's."""
        ...

    def integer_module(self, variant: str) -> Any:
        """Quantize as `quantize` does and return the Relax module."""
        ...

    def deviation(self, variant: str) -> Deviation | None:
        """Return how far the variant quantized last is from the file's integers; see `Compiled`."""
        ...

    def walk(self, variant: str, after: Callable[[str, Any], None], *, stop: str | None) -> None:
        """Tell `after` what each stage makes of a variant, up to `stop`; see `Pipeline.walk`."""
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


def compiling_of(options: Options) -> Compiling:
    """Return how options say that programs are compiled."""
    from flow.compiler.search import Compiling  # brings in TVM

    schedules = schedule_cache(options.cache) if options.search else None
    return Compiling(objective=options.objective, schedules=schedules)


def bit_cache(folder: Path | None) -> Path:
    """Return the file that sensitivities and latencies of layers are kept in."""
    return cache_folder(folder) / "measurements.json"


def open_cache(options: Options) -> Cache:
    """Return where results are kept."""
    return Cache(cache_folder(options.cache) if options.keep_results else None)


def open_backend(model: ImportedModel, config: VTAConfig, options: Options) -> Backend:
    """Return the real backend: flow.pipeline."""
    from flow.backend import PipelineBackend  # brings in TVM, which takes seconds to import

    how = compiling_of(options)
    return PipelineBackend(
        model,
        config,
        engine=options.engine,
        driver=options.driver,
        driver_timeout_s=options.driver_timeout_s,
        schedules=how.schedules,
        objective=how.objective,
        bits=options.bits,
        measurements=bit_cache(options.cache),
        distilled=partial(_distilled, model, options),
        learn=options.learn,
        learned=cache_folder(options.cache) / LEARNED if options.keep_results else None,
        cache=open_cache(options),
        workers=options.workers,
        preprocessing=picture_preprocessing(model, request_of(options.model, options.request)),
    )


def _distilled(model: ImportedModel, options: Options, stages: Stages) -> Dataset:
    """Return images distilled from a model, out of the cache where they are there."""
    from flow.distill import distilled_images  # brings in TVM, which takes seconds to import

    return distilled_images(model, options.distill, stages, cache=options.cache)


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
    cache : Cache
        Where results are kept.
    workers : Workers
        On which cores or computers images are run.
    scratch : TemporaryDirectory, optional
        What is there in place of the cache folder where nothing is kept; removed with the session.
    """

    model: ImportedModel
    machine: VTAConfig
    backend: Backend
    evaluation: Dataset | None
    calibration: Dataset | None
    cache: Cache = field(default_factory=lambda: Cache(None))
    workers: Workers = ALONE
    scratch: TemporaryDirectory[str] | None = None


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
    check_cluster(options.workers)
    if options.driver is not None:
        check_driver(options.driver, options.driver_timeout_s)
    if options.search or options.keep_results:
        hint = "choose another --cache"
        check_writable(
            cache_folder(options.cache),
            hint=f"{hint}, or give --no-cache" if options.keep_results else hint,
        )
    with stages("import", f"importing {options.model}") as progress:
        load_tvm()
        try:
            model = _load(options, progress)
        except MissingShapeError as error:
            # With all that is missing besides, so that nobody has to ask three times.
            if missing := _missing_images(options, needs_images=needs_images):
                raise _missing([SHAPE_OPTION, *missing], options.model, error.shape) from None
            raise
        evaluation, calibration = open_data(options, model, needs_images=needs_images)
        scratch, kept = None, options
        if not options.keep_results:
            scratch = TemporaryDirectory(prefix="vta-flow.")
            kept = replace(options, cache=Path(scratch.name))
        backend = factory(model, machine, kept)
    if options.zero_shot and not UNCALIBRATED.issuperset(chosen_variants(options, model)):
        calibration = _distilled(model, kept, stages)
    return Session(
        model=model,
        machine=machine,
        backend=backend,
        evaluation=evaluation,
        calibration=calibration,
        cache=open_cache(options),
        workers=options.workers,
        scratch=scratch,
    )


def open_model(options: Options, stages: Stages) -> ImportedModel:
    """Load and check the model alone.

    Raises
    ------
    FlowError
        When it cannot be used.
    """
    with stages("import", f"importing {options.model}") as progress:
        return _load(options, progress)


def _load(options: Options, progress: Progress) -> ImportedModel:
    return load_model(
        options.model,
        mirrors=options.mirrors,
        cache=options.cache,
        progress=progress,
        check=options.check_import,
        limits=Limits(factor=options.model_limit),
        qdq=options.qdq,
        request=request_of(options.model, options.request),
    )


def open_data(
    options: Options, model: ImportedModel, *, needs_images: bool
) -> tuple[Dataset | None, Dataset | None]:
    """Open evaluation and calibration images; None for those that nothing needs, or to distill.

    Raises
    ------
    CalibrationError
        When a folder is needed and not given, or cannot be used.
    """
    own = bundled_data(model)
    evaluation, calibration = own if own is not None else (None, None)
    preprocessing = picture_preprocessing(model, request_of(options.model, options.request))
    open_folder = partial(
        image_folder,
        preprocessing=preprocessing,
        shape=model.input_shape,
        file_shape=model.file_shape,
        inputs=model.inputs,
    )
    needs_calibration = not options.zero_shot and not UNCALIBRATED.issuperset(
        chosen_variants(options, model)
    )
    missing = []
    if needs_images and options.images is None and evaluation is None:
        missing.append(IMAGES_OPTION)
    if needs_calibration and options.calibration is None and calibration is None:
        missing.append(CALIBRATION_OPTION)
    if missing:
        raise _missing(missing, model.name)
    if options.images is not None and needs_images:
        evaluation = bundled_view(model, options.images) or open_folder(
            options.images,
            classes=model.classes,
            labelled=model.classes is not None,  # else labels say nothing of its outputs
        )
    if options.calibration is not None:
        calibration = open_folder(options.calibration, labelled=False)
    # Tensors that a quantized file leaves in float need no images, but use them.
    if options.zero_shot or not (needs_calibration or {*KEPT} & {*chosen_variants(options, model)}):
        calibration = None
    if evaluation is not None:
        some = evaluation.take(options.limit, seed=options.seed)
        evaluation = some.keeping_pixels() if needs_images else None  # each variant reads them
    return evaluation, calibration


def _missing_images(options: Options, *, needs_images: bool) -> list[str]:
    """Return which images must be given for a model that cannot be loaded yet."""
    variants = MAIN_VARIANTS if options.variants is None else options.variants
    missing = [IMAGES_OPTION] if needs_images and options.images is None else []
    if options.calibration is None and not options.zero_shot:
        missing += [] if UNCALIBRATED.issuperset(variants) else [CALIBRATION_OPTION]
    return missing


def chosen_variants(options: Options, model: ImportedModel) -> tuple[str, ...]:
    """Return the variants asked for; see `Options`."""
    if options.variants is not None:
        return options.variants
    if model.kept is not None:
        return (KEEP,)
    if options.one_variant:
        return (BEST_VARIANT,)
    names = VARIANTS if bundled_data(model) is not None else MAIN_VARIANTS
    if options.zero_shot:  # the others are calibrated so, too
        names = tuple(name for name in names if name not in ZERO_SHOT_OF)
    return names


def _missing(options: Sequence[str], name: str, shape: str = "") -> CalibrationError:
    """Say in one sentence all that the user must give."""
    gifts = {
        SHAPE_OPTION: f"{SHAPE_OPTION} 1,3,224,224 (the size that it was trained with)",
        IMAGES_OPTION: f"{IMAGES_OPTION} DIR",
        CALIBRATION_OPTION: f"{CALIBRATION_OPTION} DIR, or {CALIBRATION_OPTION} {ZERO_SHOT}",
    }
    lacks = {
        SHAPE_OPTION: f"leaves the size of its input open, {shape},",
        IMAGES_OPTION: "has no images of its own",
        CALIBRATION_OPTION: "has no images of its own",
    }
    return CalibrationError(
        ", ".join(options),
        f"must be given: {name} {' and '.join(dict.fromkeys(lacks[o] for o in options))}",
        hint="give " + "; ".join(gifts[option] for option in options),
    )


def calibrate(session: Session, stages: Stages, variants: Sequence[str] = ()) -> None:
    """Profile the float model on the calibration images, if a variant needs them.

    What `variants` need besides is measured in the same pass, where that is possible.
    """
    images = session.calibration
    if images is None:
        return
    with stages("calibrate", "calibrating") as progress:
        learns = any(v in RECIPES and RECIPES[v].options.learns for v in variants)
        session.backend.calibrate(images, progress, learns=learns)


def float_logits(session: Session, stages: Stages) -> Logits:
    """Run the float32 model on ONNX Runtime: what every variant is compared with.

    Returns
    -------
    float32[images, values]
    """
    model, data = session.model, session.evaluation
    assert data is not None
    kept = elsewhere = None
    if session.cache.enabled and (images := image_digests(data)) is not None:
        proto = sha256(model.proto.SerializeToString(deterministic=True)).hexdigest()
        kept = KeptRows(session.cache, "float32", key_of(proto), images)
    if session.workers.several:
        sent = SentFloat(model.proto.SerializeToString(deterministic=True))
        elsewhere = rows_elsewhere(sent, start_float, data, session.workers)
    network = Later(lambda: OnnxRuntime(model.proto))
    with stages("float32", "running float32 on ONNX Runtime") as progress:
        return run_all(
            network,
            data,
            values=model.values,
            progress=progress,
            kept=kept,
            elsewhere=elsewhere,
        )
