"""The integer networks of a sweep: one for each way in which machines change the numbers.

Machines that agree in block and operand bits have the same integers: a model is quantized once for
all of them. Without images it is quantized on random tensors, as ``vta-flow estimate`` does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from flow.cache.images import image_digests
from flow.cache.keys import key_of
from flow.cache.rows import KeptRows
from flow.data.datasets import random_images
from flow.data.models import bundled_data
from flow.estimate import TENSORS
from flow.options import ESTIMATED_VARIANT, UNCALIBRATED
from flow.pipeline import Pipeline
from flow.results.evaluate import Later, Logits, Metrics, measure, run_all
from flow.session import (
    Session,
    calibrate,
    float_logits,
    open_backend,
    open_model,
    open_session,
)
from flow.sweep.measure import Network
from relay_passes.variants import KEEP, KEPT, STOCK_RELAY
from vta_config.errors import FlowError

if TYPE_CHECKING:
    from flow.data.datasets import Dataset
    from flow.options import Options
    from flow.stages import Stages
    from vta_config.hardware import VTAConfig

#: What of a machine decides the integers: block, bits of inputs, bits of weights.
Numbers = tuple[int, int, int]


def numbers_of(machine: VTAConfig) -> Numbers:
    """Return what of a machine decides the integers of a network."""
    return machine.block, machine.inp_bits, machine.wgt_bits


def numbers_text(numbers: Numbers) -> str:
    """Return it for people."""
    block, inp, wgt = numbers
    return f"block {block}, W{wgt}A{inp}"


@dataclass(slots=True, kw_only=True)
class Refused:
    """A network that cannot be quantized so."""

    reason: str


class Networks:
    """A model, and its integer networks by variant and by what of a machine decides them.

    Parameters
    ----------
    options : Options
        The model and its images.
    variants : tuple of str
        Empty: what an estimate takes.
    stages : Stages
        Measures and shows.

    Raises
    ------
    FlowError
        When the model or its images cannot be used.
    """

    def __init__(self, options: Options, variants: tuple[str, ...], stages: Stages) -> None:
        """Load the model."""
        self._stages = stages
        self.model = open_model(options, stages)
        usual = ESTIMATED_VARIANT if self.model.kept is None else KEEP
        self.variants = variants or (usual,)
        self._options = replace(options, variants=self.variants, check_import=False)
        self._session: Session | None = None
        if options.images is not None or bundled_data(self.model) is not None:
            self._session = open_session(self._options, stages)
        self._pipelines: dict[Numbers, Any] = {}
        self._found: dict[tuple[str, Numbers], Network | Refused] = {}
        self._metrics: dict[str, Metrics] = {}

    @property
    def images(self) -> Dataset | None:
        """The images that accuracy is measured on."""
        return None if self._session is None else self._session.evaluation

    @property
    def calibrated_on(self) -> str:
        """What networks are calibrated on."""
        if self._session is None:
            return f"{TENSORS} random tensors"
        calibration = self._session.calibration
        return "nothing" if calibration is None else calibration.name

    def of(self, variant: str, machine: VTAConfig) -> Network | Refused:
        """Return the network of a variant for a machine, quantized when it is asked for first."""
        key = variant, numbers_of(machine)
        if key not in self._found:
            try:
                self._found[key] = Network.of(self._quantized(variant, machine))
            except FlowError as error:
                self._found[key] = Refused(reason=str(error))
        return self._found[key]

    def _quantized(self, variant: str, machine: VTAConfig) -> Any:
        numbers = numbers_of(machine)
        name = f"{self.model.name} {variant} for {numbers_text(numbers)}"
        if self._session is None:
            pipeline = self._pipeline(machine, calibrated=variant not in UNCALIBRATED)
            with self._stages("quantize", f"quantizing {name}"):
                # As it stands: of candidates none is better on random tensors.
                own = variant in (STOCK_RELAY, *KEPT)
                return pipeline.quantize(variant) if own else pipeline.form(variant)
        backend = self._backend(machine)
        with self._stages("quantize", f"quantizing {name}") as progress:
            backend.quantize(variant, progress)
        return backend.integer_module(variant)

    def _pipeline(self, machine: VTAConfig, *, calibrated: bool) -> Pipeline:
        numbers = numbers_of(machine)
        if numbers not in self._pipelines:
            pipeline = Pipeline(self.model, machine, objective=self._options.objective)
            if calibrated:
                data = random_images(self.model.input_shape, TENSORS)
                with self._stages("calibrate", "calibrating on random tensors") as progress:
                    pipeline.calibrate(data, lambda count: progress(count, len(data)))
            self._pipelines = {numbers: pipeline}  # of one kind at a time: they hold the model
        found: Pipeline = self._pipelines[numbers]
        return found

    def _backend(self, machine: VTAConfig) -> Any:
        numbers = numbers_of(machine)
        if numbers not in self._pipelines:
            assert self._session is not None
            backend = open_backend(self.model, machine, self._options)
            session = replace(self._session, machine=machine, backend=backend)
            calibrate(session, self._stages)
            self._pipelines = {numbers: backend}
        return self._pipelines[numbers]

    # ---- accuracy --------------------------------------------------------------------------------
    @cached_property
    def _reference(self) -> Logits:
        assert self._session is not None
        return float_logits(self._session, self._stages)

    @property
    def reference(self) -> Metrics | None:
        """The metrics of float32; None without images."""
        data = self.images
        if data is None:
            return None
        own = self._reference
        return measure("float32", own, own, data.targets, self.model.outputs)

    def accuracy_key(self, network: Network) -> str:
        """Return what the accuracy of a network depends on; "" where it has no key."""
        assert self.images is not None
        digests = image_digests(self.images)
        if digests is None or network.arrays is None:
            return ""
        return key_of("accuracy", network.digest, self.model.sha256, digests)

    def accuracy(self, variant: str, network: Network, machine: VTAConfig) -> Metrics:
        """Run a network on all images, on the functional simulator of a machine that takes it."""
        data, session = self.images, self._session
        assert data is not None and session is not None
        name = f"{self.model.name} {variant} for {numbers_text(numbers_of(machine))}"
        kept = None
        digests = image_digests(data) if session.cache.enabled else None
        if digests is not None and network.arrays is not None:
            kept = KeptRows(session.cache, "logits", key_of("sweep", network.digest), digests)
        run = Later(lambda: Pipeline(self.model, machine).compile(network.module).network())
        with self._stages("accuracy", f"running {name}") as progress:
            values = self.model.values
            logits = run_all(run, data, values=values, progress=progress, kept=kept)
        return measure(variant, logits, self._reference, data.targets, self.model.outputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """How near a network is to float32: what the front compares, and the metrics.

    Parameters
    ----------
    metrics : Metrics
    quantity : {"top-1", "agreement", "centred SQNR", "SQNR"}
        Which of them the front compares: the first that there is.
    """

    metrics: Metrics
    quantity: str = field(default="")

    @property
    def value(self) -> float | None:
        """The number that the front compares: a share, or dB; None where it is not finite."""
        return {
            "top-1": self.metrics.top1,
            "agreement": self.metrics.agreement,
            "centred SQNR": self.metrics.centred_sqnr_db,
            "SQNR": self.metrics.sqnr_db,
        }[self.quantity]


def accuracy_of(metrics: Metrics | Mapping[str, Any]) -> Accuracy:
    """Choose the quantity that networks are compared by."""
    found = metrics if isinstance(metrics, Metrics) else Metrics.from_json(metrics)
    for quantity in ("top-1", "agreement", "centred SQNR"):
        if Accuracy(metrics=found, quantity=quantity).value is not None:
            return Accuracy(metrics=found, quantity=quantity)
    return Accuracy(metrics=found, quantity="SQNR")
