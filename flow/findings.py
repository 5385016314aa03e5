"""What a deployment finds, variant by variant: each is measured whole, or leaves no trace."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from flow.data.datasets import Dataset
from flow.options import UNCALIBRATED, Options
from flow.results.data_facts import DataFacts
from flow.results.details.collect import collect
from flow.results.details.types import Details
from flow.results.evaluate import Logits, Metrics, measure, run_all
from flow.results.report import Exactness, LayerCounters, ProgramFacts, Report, Skipped
from flow.results.run_facts import RunFacts
from flow.stages import Stages
from flow.system.host_memory import give_back
from flow.system.tracebacks import internal_error
from vta_config.errors import DriverError

if TYPE_CHECKING:
    from flow.session import Compiled, Session

#: Evaluation images on which layers are compared with float32.
LAYER_IMAGES: Final = 4
#: What a report says of variants while they are still to come.
UNFINISHED: Final = "not measured: the run has not reached this variant"


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployed:
    """The variant whose program is told in full, so far."""

    variant: str
    compiled: Compiled
    layers: tuple[LayerCounters, ...]
    logits: Logits
    exact_images: int


@dataclass(slots=True, kw_only=True)
class Findings:
    """What a deployment has found so far, variant by variant.

    Parameters
    ----------
    session, options, stages
        Of the deployment.
    reference : float32[images, classes]
        Logits of the float model.
    preference : tuple of str
        The variants, first the one to deploy if it can be had.
    few_images : int
        Images on which engines are compared in any other variant, at most.
    metrics, programs, skipped
        What the report says.
    run : RunFacts
        Which run it is.
    deployed : Deployed, optional
        The best variant so far.
    stopped : str
        Why no further variant is tried.
    details : Details, optional
        Of the deployed variant.
    """

    session: Session
    options: Options
    stages: Stages
    reference: Logits
    preference: tuple[str, ...]
    few_images: int
    metrics: list[Metrics]
    programs: list[ProgramFacts] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    run: RunFacts = field(default_factory=RunFacts)
    deployed: Deployed | None = None
    stopped: str = ""
    details: Details | None = None

    def add(self, variant: str) -> None:
        """Quantize, compile, run and compare a variant; an error leaves no trace of it."""
        session, options, stages = self.session, self.options, self.stages
        data = session.evaluation
        assert data is not None
        distilled = session.backend.prepare(variant, stages)
        calibration = None if variant in UNCALIBRATED else session.calibration
        with stages("quantize", f"quantizing {variant}") as progress:
            session.backend.quantize(variant, progress)
        with stages("compile", f"compiling {variant}"):
            compiled = session.backend.compile(variant)
        with stages("time", f"timing {variant}"):
            latency = compiled.latency
        with stages(options.engine, f"running {variant} on {options.engine}") as progress:
            logits = run_all(
                compiled.networks(),
                data,
                values=session.model.values,
                progress=progress,
                kept=compiled.kept_rows(data),
                elsewhere=compiled.elsewhere(data),
            )
        metrics = measure(variant, logits, self.reference, data.targets, session.model.outputs)
        images = options.exact_images
        if variant != self.preference[0]:
            images = min(images, self.few_images)
        exact = None
        if images:
            exact = verify(compiled, data.take(images, seed=options.seed), stages, variant)
        sample = data.take(LAYER_IMAGES, seed=options.seed)
        with stages("layers", f"comparing layers of {variant}") as progress:
            give_back()  # what engines and the reference needed for every tensor
            layers = compiled.compare_layers(sample, progress)
        facts = ProgramFacts(
            variant=variant,
            latency=latency,
            placement=compiled.placement,
            choice=compiled.choice,
            requantization_error=compiled.requantization_error,
            plan=compiled.plan,
            bits=compiled.bits,
            deviation=compiled.deviation,
            exact=exact,
            calibration=_facts(calibration if distilled is None else distilled),
            layers=layers,
            layer_images=len(sample),
        )
        deployed = self.deployed
        if deployed is None or self._better(variant, deployed.variant):
            deployed = Deployed(
                variant=variant,
                compiled=compiled,
                layers=compiled.layers,
                logits=logits,
                exact_images=images,
            )
        self.metrics.append(metrics)
        self.programs.append(facts)
        self.deployed = deployed

    def compare_deployed(self, folder: Path | None) -> None:
        """Compare the deployed variant on all images where it was not meant to be the one."""
        assert self.deployed is not None and self.session.evaluation is not None
        name, options = self.deployed.variant, self.options
        if self.deployed.exact_images >= options.exact_images or self.stopped:
            return
        images = self.session.evaluation.take(options.exact_images, seed=options.seed)
        try:
            exact = verify(self.deployed.compiled, images, self.stages, name)
        except DriverError as error:
            self.stopped = str(error)
        except Exception as error:
            told = internal_error(error, folder, where=name)
            self.skipped.append(Skipped(variant=f"{name} on more images", reason=told.reason))
        else:
            self.programs = [
                replace(p, exact=exact) if p.variant == name else p for p in self.programs
            ]

    def collect_details(self, folder: Path | None) -> None:
        """Collect what the page of the report shows of the deployed variant besides numbers."""
        from flow.results.details.worst_images import worst_images

        own, session = self.deployed, self.session
        assert own is not None and session.evaluation is not None
        data, outputs = session.evaluation, session.model.outputs
        makers = {
            **own.compiled.describers(),
            "worst_images": lambda: worst_images(data, own.logits, self.reference, outputs),
        }
        with self.stages("details", f"collecting details of {own.variant}"):
            self.details = collect(makers, folder)

    def report(self, unfinished: tuple[str, ...] = ()) -> Report:
        """Put everything found into a report, while `unfinished` variants are still to come."""
        assert self.deployed is not None
        return Report(
            model_name=self.session.model.name,
            model_sha256=self.session.model.sha256,
            machine=self.session.machine,
            engine=self.options.engine,
            evaluation=_facts(self.session.evaluation),
            calibration=_facts(self.session.calibration),
            run=self.run,
            variants=tuple(self.metrics),
            deployed=self.deployed.variant,
            layers=self.deployed.layers,
            seconds=dict(self.stages.seconds),
            programs=tuple(self.programs),
            skipped=(
                *self.skipped,
                *(Skipped(variant=v, reason=UNFINISHED) for v in unfinished),
            ),
            details=self.details,
            stopped=self.stopped or ("the run has not ended" if unfinished else ""),
        )

    def _better(self, variant: str, other: str) -> bool:
        return self.preference.index(variant) < self.preference.index(other)


def verify(
    compiled: Compiled, images: Dataset, stages: Stages, variant: str, *, anew: bool = False
) -> Exactness:
    """Compare the engines on `images`; with `anew` also where they were equal before."""
    with stages("verify", f"comparing engines: {variant}") as progress:
        return compiled.verify(images, progress, anew=anew)


def _facts(data: Dataset | None) -> DataFacts | None:
    return None if data is None else DataFacts(name=data.name, images=len(data))
