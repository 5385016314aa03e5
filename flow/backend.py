"""The pipeline as a session uses it: quantize, compile, choose the engine, compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import flow.sim.oracle  # noqa: F401  # registers the engine "oracle"
from flow.artefacts.save import NetworkFacts, save_artefact
from flow.bit_request import BitRequest
from flow.bits.choose import BitChooser
from flow.bits.latencies import widths_of
from flow.cache.results import KeptResults
from flow.cache.store import Cache
from flow.compiled_model import CompiledModel
from flow.compiler.shapes import Objective
from flow.data.datasets import Dataset, Preprocessing
from flow.frontend.importer import ImportedModel
from flow.layer_comparison import layer_facts
from flow.learn_request import LearnRequest
from flow.learned_blocks import LearnedBlocks
from flow.options import Engine
from flow.pipeline import Pipeline
from flow.results.bit_choice import BitChoice
from flow.results.details.graph import network_graph
from flow.results.details.histograms import histograms
from flow.results.details.memory import program_memory
from flow.results.evaluate import Elsewhere, Later, Network, Rows
from flow.results.explanation import Explanation
from flow.results.latency import Latency, latency_of, write_pictures
from flow.results.layer_facts import LayerFacts
from flow.results.placement import Placement
from flow.results.report import COUNTERS, SETUP, Exactness, LayerCounters
from flow.sent_model import model_elsewhere
from flow.sim.core_library import vta_modules
from flow.stages import Progress, Stages
from flow.system.host_memory import give_back
from flow.system.threads import blas_threads
from flow.verify import Verifier, exactness_of
from flow.worker_request import ALONE, Workers
from relay_passes.host.float_graph import FloatGraph
from relay_passes.integers.integer_facts import quantization_plan, requantization_errors
from relay_passes.integers.plan import QuantPlan
from relay_passes.params import TensorProfile
from relay_passes.scales.bit_widths import BitWidths
from relay_passes.scales.kept import Deviation
from relay_passes.selection.choices import Choice
from relay_passes.stage import After
from relay_passes.variants import KEPT, MIXED, ZERO_SHOT_OF
from vta_config.hardware import VTAConfig


class PipelineBackend:
    """One model on one machine, run by one engine.

    Parameters
    ----------
    model : ImportedModel
        The model.
    config : VTAConfig
        The machine.
    engine : {"fsim", "tsim", "oracle", "driver"}
        What runs the programs.
    driver : Path, optional
        Shared library, for ``driver``.
    driver_timeout_s : float, optional
        What one call of the library may take; by default any time.
    schedules : Path, optional
        Search schedules and keep them in this file.
    objective : {"balanced", "latency"}
        What the input layouts are chosen by: cycles and bytes, or cycles alone.
    bits : BitRequest, optional
        What the bits of `mixed` are chosen by.
    measurements : Path, optional
        Keep what is measured for that choice in this file.
    distilled : callable (stages) -> Dataset, optional
        Distills calibration images from the model, for the variants that are calibrated on these.
    learn : LearnRequest, optional
        How long variants learn whose weights are learned block by block.
    learned : Path, optional
        Folder to keep in what they have learned so far.
    cache : Cache, optional
        Keeps everything else that takes long.
    preprocessing : Preprocessing, optional
        How pictures become the model's input, for whoever deploys it.
    workers : Workers
        On which cores or computers images are run.
    """

    def __init__(
        self,
        model: ImportedModel,
        config: VTAConfig,
        *,
        engine: Engine = "fsim",
        driver: Path | None = None,
        driver_timeout_s: float | None = None,
        schedules: Path | None = None,
        objective: Objective = "balanced",
        bits: BitRequest | None = None,
        measurements: Path | None = None,
        distilled: Callable[[Stages], Dataset] | None = None,
        learn: LearnRequest | None = None,
        learned: Path | None = None,
        cache: Cache | None = None,
        preprocessing: Preprocessing | None = None,
        workers: Workers = ALONE,
    ) -> None:
        """Prepare the float model."""
        self._cache = cache or Cache(None)
        self._new_pipeline = partial(
            Pipeline,
            model,
            config,
            schedules=schedules,
            objective=objective,
            learning=(learn or LearnRequest()).applied,
            kept=None if learned is None else LearnedBlocks(learned),
            cache=self._cache,
            workers=workers,
        )
        self.pipeline = self._new_pipeline(choose_widths=self._choose_widths)
        self._distilled = distilled
        self._zero_shot: tuple[Pipeline, Dataset] | None = None
        self._request, self._measurements = bits or BitRequest(), measurements
        self._chooser: BitChooser | None = None
        self._bits: BitChoice | None = None
        self._engine: Engine = engine
        self._workers = workers
        self._driver = driver
        self._driver_timeout_s = driver_timeout_s
        self._preprocessing = preprocessing
        self._quantized: tuple[str, Any] = ("", None)

    def calibrate(self, images: Dataset, progress: Progress) -> None:
        """Profile the float model on `images`."""
        self._quantized, self._chooser, self._bits = ("", None), None, None
        self.pipeline.calibrate(images, lambda count: progress(count, len(images)))

    def prepare(self, variant: str, stages: Stages) -> Dataset | None:
        """Calibrate a variant of `ZERO_SHOT_OF`; return the images, None for other variants.

        Raises
        ------
        ConfigError
            When PyTorch is missing.
        UnsupportedModelError
            When the model has no BatchNorm statistics.
        """
        if variant not in ZERO_SHOT_OF:
            return None
        if self._zero_shot is None:
            assert self._distilled is not None, "what distills must be given"
            images = self._distilled(stages)
            pipeline = self._new_pipeline()
            with stages("calibrate", "calibrating on distilled images") as progress:
                pipeline.calibrate(images, lambda count: progress(count, len(images)))
            self._zero_shot = pipeline, images
        return self._zero_shot[1]

    def pipeline_of(self, variant: str) -> tuple[Pipeline, str]:
        """Return the pipeline that a variant is calibrated in, and the variant's name there."""
        if variant not in ZERO_SHOT_OF:
            return self.pipeline, variant
        assert self._zero_shot is not None, "`prepare` comes first"
        return self._zero_shot[0], ZERO_SHOT_OF[variant]

    def bit_chooser(self, progress: Progress | None = None) -> BitChooser:
        """Return what chooses the bits of `mixed`, made once for the calibration images."""
        if self._chooser is None:
            self._chooser = BitChooser(
                self.pipeline, self._request, cache=self._measurements, progress=progress
            )
        return self._chooser

    def _choose_widths(self, pipeline: Pipeline) -> BitWidths:
        if self._bits is None:
            self._bits = self.bit_chooser().choose()
        return widths_of(self.bit_chooser().layers, self._bits.bits)

    def quantize(self, variant: str, progress: Progress | None = None) -> None:
        """Quantize by a variant, and keep the result for `compile`.

        `progress` is told of the steps of variants that learn step by step.
        """
        self._quantized = ("", None)
        give_back()  # what was made of the variant before
        pipeline, name = self.pipeline_of(variant)
        self._quantized = (variant, pipeline.quantize(name, progress))

    def plan(self, variant: str) -> QuantPlan | None:
        """Quantize by a variant, unless that was the last thing done, and return its plan."""
        return quantization_plan(self.integer_module(variant))

    def integer_module(self, variant: str) -> Any:
        """Quantize by a variant, unless that was the last thing done, and return its module."""
        if self._quantized[0] != variant:
            self.quantize(variant)
        return self._quantized[1]

    def deviation(self, variant: str) -> Deviation | None:
        """Return how far a variant that keeps a file's integers is from them; None of others."""
        if variant not in KEPT:
            return None
        assert self._quantized[0] == variant, "`quantize` comes first"
        return self.pipeline.deviation(self._quantized[1])

    def walk(self, variant: str, after: After, *, stop: str | None = None) -> None:
        """Tell `after` what each stage makes of a variant; see `Pipeline.walk`."""
        pipeline, name = self.pipeline_of(variant)
        pipeline.walk(name, after, stop=stop)

    def compile(self, variant: str) -> PipelineCompiled:
        """Quantize and compile a variant."""
        quantized = self.integer_module(variant)
        pipeline, name = self.pipeline_of(variant)
        compiled = pipeline.compile(quantized)
        network = Later(lambda: self._started(compiled))
        if self._engine == "driver":
            network.build()  # what a library lacks is told before images are prepared
        return PipelineCompiled(
            model=compiled,
            network=network,
            kept=KeptResults(
                # What runs behind a driver is not known here: it is asked each time.
                Cache(None) if self._engine == "driver" else self._cache,
                lambda: pipeline.results_key(name, compiled, self._engine),
            ),
            choice=pipeline.choices.get(name),
            bits=self._bits if variant == MIXED else None,
            deviation=self.deviation(variant),
            profiles=pipeline.profiles_of(name),
            floats=lambda: pipeline.float_graph(name),
            facts=self._facts(variant),
            engine=self._engine,
            workers=self._workers,
            source=(pipeline, name),
        )

    def _started(self, compiled: CompiledModel) -> Network:
        """Build the executable, choose the engine, and start the virtual machine."""
        for module in vta_modules(compiled.executable.mod):
            module["set_driver_timeout"](self._driver_timeout_s or 0.0)
            module["set_engine"](
                self._engine, "" if self._driver is None else str(self._driver.absolute())
            )
        return compiled.network()

    def _facts(self, variant: str) -> NetworkFacts:
        """Return what whoever deploys a variant needs to know of the model."""
        model = self.pipeline.model
        return NetworkFacts(
            name=model.name,
            sha256=model.sha256,
            inputs=model.inputs,
            outputs=model.outputs,
            preprocessing=self._preprocessing,
            variant=variant,
        )


@dataclass(slots=True, kw_only=True)
class PipelineCompiled:
    """A compiled variant.

    Parameters
    ----------
    model : CompiledModel
        What the pipeline made.
    network : callable
        Runs it on the engine.
    kept : KeptResults
        Keeps what that gives; by default nothing.
    choice : Choice, optional
        Which steps of the variant were kept; None where nothing was calibrated.
    bits : BitChoice, optional
        Which bits each layer got, of `mixed`.
    deviation : Deviation, optional
        How far it is from the integers of the file, of variants that keep them.
    profiles : mapping of str to TensorProfile
        Of the float tensors that became its integers; empty where nothing was calibrated.
    floats : callable () -> FloatGraph, optional
        Returns the float graph that its tensors are compared with; None where there is none.
    facts : NetworkFacts, optional
        What whoever deploys it needs to know of the model.
    source : (Pipeline, str), optional
        What quantized it, and the variant's name there.
    """

    model: CompiledModel
    network: Network
    kept: KeptResults = field(default_factory=lambda: KeptResults(Cache(None), str))
    choice: Choice | None = None
    bits: BitChoice | None = None
    deviation: Deviation | None = None
    profiles: Mapping[str, TensorProfile] = field(default_factory=dict)
    floats: Callable[[], FloatGraph | None] = lambda: None
    facts: NetworkFacts | None = None
    engine: Engine = "fsim"
    workers: Workers = ALONE
    source: tuple[Pipeline, str] | None = None
    _verifier: Verifier | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Say what the program with these bits takes."""
        if self.bits is not None and (latency := self.latency) is not None:
            self.bits = replace(self.bits, measured_cycles=latency.cycles)

    @property
    def layers(self) -> tuple[LayerCounters, ...]:
        """Return the counters of every layer for one image; what is no layer's comes first."""
        kinds = {record.name: record.kind for p in self.model.programs for record in p.layers}
        counters = self.model.counters_by_layer()
        setup = counters.pop(None, dict.fromkeys(COUNTERS, 0))
        rows = (
            LayerCounters(name=name, kind=kinds[name], counters=own)
            for name, own in counters.items()
            if name is not None
        )
        return (LayerCounters(name=SETUP, kind=SETUP, counters=setup), *rows)

    @property
    def placement(self) -> Placement:
        """Return what runs where."""
        return self.model.placement

    def describers(self) -> Mapping[str, Callable[[], Any]]:
        """Return what makes the graph, the memory and the histograms of a report."""
        model, plan = self.model, self.model.plan
        parts: dict[str, Callable[[], Any]] = {
            "graph": lambda: network_graph(model.quantized, model.partitioned, model.found, plan),
            "memory": lambda: tuple(program_memory(program) for program in model.programs),
        }
        if plan is not None:
            parts["histograms"] = lambda: histograms(plan, self.profiles, model.found)
        return parts

    def networks(self) -> Sequence[Network]:
        """Return the executable; one is enough, images are prepared in another thread."""
        return [self.network]

    def kept_rows(self, data: Dataset) -> Rows | None:
        """Return what keeps the engine's results on these images; None where nothing does."""
        return self.kept.rows("logits", data)

    def elsewhere(self, data: Dataset) -> Elsewhere | None:
        """Return what runs the engine on other cores or computers; None where it runs here."""
        return model_elsewhere(self.model, self.engine, data, self.workers)

    def verify(self, images: Dataset, progress: Progress, *, anew: bool = False) -> Exactness:
        """Compare all engines bit for bit; what was equal before is not run again."""
        kept = None if anew else self.kept.rows("verified", images, ordered=True)
        known = {} if kept is None else kept.found(1)
        if len(known) == len(images):  # equal on the same inputs before: nothing to build
            progress(len(images), len(images))
            return exactness_of(known.values())
        if self._verifier is None or self._verifier.fast:
            self._verifier = Verifier(self.model, self.network)
        with blas_threads(1):  # the oracle's products are small
            return self._verifier.run(images, progress, kept)

    def compare_layers(self, images: Dataset, progress: Progress) -> tuple[LayerFacts, ...]:
        """Compare each layer's tensor with float32; return these and other facts about layers."""

        def compare() -> tuple[LayerFacts, ...]:
            if self._verifier is None:
                self._verifier = Verifier(self.model, self.network, fast=True)
            with blas_threads(1):
                return layer_facts(self.model, self._verifier, self.floats(), images, progress)

        return self.kept.layers(images, compare)

    @property
    def requantization_error(self) -> float:
        """Return the largest |used / meant - 1| of any ratio of scales; 0.0: all are exact."""
        return max(requantization_errors(self.model.quantized).values(), default=0.0)

    @property
    def plan(self) -> QuantPlan | None:
        """Return the integers that the scales became; None for stock Relay's quantization."""
        return self.model.plan

    @property
    def latency(self) -> Latency | None:
        """Return how long the machine takes for one image; None when it runs nothing."""
        return latency_of(self.model.timed)

    def explain(self, stages: Stages, layer: str = "") -> Explanation:
        """Say what bounds it, or one of its layers, and what would help.

        Raises
        ------
        ConfigError
            When nothing is called `layer`.
        """
        from flow.explain.explain import Compiled, explain_network

        assert self.source is not None and self.facts is not None, "the backend gives them"
        pipeline, name = self.source
        own = Compiled(pipeline=pipeline, variant=name, model=self.model)
        return explain_network(own, stages, layer, shown_variant=self.facts.variant)

    def draw(self, directory: Path) -> tuple[Path, ...]:
        """Write a trace and, with matplotlib, plots of the timing."""
        return write_pictures(self.model.timed, directory)

    def save(self, path: Path) -> tuple[Path, ...]:
        """Write the program files."""
        return self.model.save(path)

    def save_artefact(self, folder: Path) -> str:
        """Write the folder that can be deployed; return what is missing in it, "" for nothing."""
        model = self.model
        assert self.facts is not None, "the backend gives them"
        return save_artefact(
            folder,
            self.facts,
            machine=model.config,
            programs=model.programs,
            partitioned=model.partitioned,
            executable=model.executable,
            plan=model.plan,
        )
