"""The order of things: the only module that knows it.

`STAGES` lists the stages, each a value in and a value out; those of `relay_passes` come first. A
callback may look at what each made before the next one begins: see `Pipeline.walk`.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flow.cache.quantized import KeptQuantization, compiled_key
from flow.cache.store import Cache
from flow.candidates import Candidates, Trial
from flow.compiled_model import CompiledModel
from flow.data.datasets import Dataset
from flow.kept_pictures import Pictures
from flow.learning_moments import LearningMoments
from flow.machine_stages import MACHINE_STAGES, Compilation
from flow.parallel.run import run_all
from flow.profile_ranges import profiles_of
from flow.system.host_memory import give_back
from flow.system.threads import blas_threads
from flow.worker_request import ALONE, Workers
from relay_passes.calibration.moments import LayerMoments, reordered_moments
from relay_passes.float_model.channels import input_orders, map_channels
from relay_passes.float_model.permute_channels import PermuteChannels
from relay_passes.graph import read_graph
from relay_passes.host.float_graph import FloatGraph
from relay_passes.integers.deviation import deviation
from relay_passes.integers.integer_facts import quantization_plan
from relay_passes.partition.fallbacks import host_work
from relay_passes.quant_options import QuantOptions
from relay_passes.quantize_model import FLOAT_STAGES, INTEGER_STAGES, Quantization, run_passes
from relay_passes.selection.choices import Candidate, Choice, LayerProof
from relay_passes.selection.prove_layers import prove_layers, tensors_to_prove
from relay_passes.stage import Stage, run_stages, upto
from relay_passes.stock_relay.quantize import StockRelay
from relay_passes.variants import (
    ALTERNATIVES,
    KEPT,
    MIXED,
    RECIPES,
    STEPS,
    STOCK_RELAY,
    VARIANTS,
    kept_options,
)
from vta_config.errors import CalibrationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from flow.compiler.shapes import Objective
    from flow.frontend.importer import ImportedModel
    from flow.frontend.origins import OnnxNode
    from relay_passes.learning.kept import Kept
    from relay_passes.learning.learn import Progress as LearnProgress
    from relay_passes.learning.options import BlockLearner
    from relay_passes.params import TensorProfile
    from relay_passes.partition.host_work import Fallback, HostWork
    from relay_passes.scales.bit_widths import BitWidths
    from relay_passes.scales.kept import Deviation
    from relay_passes.stage import After
    from vta_config.hardware import VTAConfig

#: Calibration images kept for GPTQ rounding and bias correction.
LEARNING_IMAGES: Final = 128
#: Variants that `mixed` is a candidate of.
_WITH_MIXED: Final = frozenset(name for name, names in ALTERNATIVES.items() if MIXED in names)
#: Candidates of several variants: kept, since they take long to compute.
_COMPARED: Final = frozenset(name for names in ALTERNATIVES.values() for name in names)


#: All stages in order.
STAGES: Final[tuple[Stage[Any], ...]] = (*FLOAT_STAGES, *INTEGER_STAGES, *MACHINE_STAGES)


class Pipeline:
    """One model for one machine, stage by stage.

    Parameters
    ----------
    model : ImportedModel
    config : VTAConfig
    schedules : Path, optional
        Search schedules with the cycle-level simulator and keep them in this file; by default the
        compiler's cost model chooses.
    objective : {"balanced", "latency"}
        What the input layouts are chosen by: cycles and bytes, or cycles alone.
    choose_widths : callable (pipeline) -> BitWidths, optional
        Chooses the bits of the variant `mixed` when it is requested.
    learning : callable (learner) -> BlockLearner, optional
        Changes how long variants with a learner learn.
    kept : Kept, optional
        Keeps the stages that a learner has finished.
    cache : Cache, optional
        Keeps everything else that takes long; by default nothing.
    workers : Workers
        On which cores or computers calibration images are profiled.

    Raises
    ------
    ConfigError
        When the compiler does not know the machine's numbers.
    """

    def __init__(
        self,
        model: ImportedModel,
        config: VTAConfig,
        *,
        schedules: Path | None = None,
        objective: Objective = "balanced",
        choose_widths: Callable[[Pipeline], BitWidths] | None = None,
        learning: Callable[[BlockLearner], BlockLearner] = lambda learner: learner,
        kept: Kept | None = None,
        cache: Cache | None = None,
        workers: Workers = ALONE,
    ) -> None:
        """Fold constants and BatchNorm."""
        self._workers = workers
        self.model = model
        self.config = config
        self.schedules = schedules
        self.objective = objective
        self._choose_widths = choose_widths
        self._learning, self._kept_blocks = learning, kept
        self._progress: LearnProgress | None = None
        fold = upto(FLOAT_STAGES, "fold")
        state = run_stages(fold, Quantization(mod=model.mod))
        self.folded, before = state.mod, state.names
        #: Tensor of the folded module -> the ONNX node that it comes from, where that is known.
        self.origins: Mapping[str, OnnxNode] = {
            name: model.origins[old] for name, old in before.items() if old in model.origins
        }
        #: The integers of a model that is quantized already, by tensors of the folded module.
        self.kept = None if model.kept is None else model.kept.renamed(self._old_names(before))
        self.profiles: dict[str, TensorProfile] = {}
        self._images: Sequence[NDArray[np.float32]] = []
        self._all_images: Sequence[NDArray[np.float32]] = []  # as many as can be read again
        self._moments = LearningMoments(self.folded, self._images)
        self._rescaled: dict[tuple[Any, ...], Mapping[str, TensorProfile]] = {}
        self._proofs: dict[str, LayerProof] | None = None
        self._inputs: list[Mapping[str, NDArray[Any]]] = []  # of layers to prove, by image
        self._quantized: dict[str, Any] = {}
        self._candidates: Candidates | None = None
        self._passed: tuple[tuple[Any, ...], Any] = ((), self.folded)  # module after passes
        self._orders: Mapping[str, NDArray[np.int64]] = {}  # of layers' inputs, after these passes
        self._cache = cache or Cache(None)
        self._results = KeptQuantization(self._cache, self.folded, config)
        self._floats: FloatGraph | None = None  # of the module after the passes used last
        #: What each variant quantized so far became, and which steps it kept.
        self.choices: dict[str, Choice] = {}

    def on_machine(self, config: VTAConfig, images: int) -> Pipeline:
        """Return one of the same model and profiles for another machine, with so many images."""
        other = copy(self)
        other.config, other._cache = config, Cache(None)
        other._results = KeptQuantization(other._cache, self.folded, config)
        other._images = other._all_images = self._images[:images]
        other._moments = LearningMoments(self.folded, other._images)
        other._rescaled, other._proofs = {}, None
        other._quantized, other.choices, other._candidates = {}, {}, None
        return other

    def _old_names(self, before: Mapping[str, str]) -> dict[str, str]:
        """Return the imported module's names of the folded one's tensors, the inputs included."""
        inputs = (str(param.name) for param in read_graph(self.folded).params)
        return {**{name: name for name in inputs}, **before}

    def calibrate(
        self,
        images: Iterable[NDArray[np.float32]],
        progress: Callable[[int], None] | None = None,
        *,
        learns: bool = False,
    ) -> dict[str, TensorProfile]:
        """Profile every tensor of the float model on float32[1, C, H, W] images.

        Parameters
        ----------
        images : iterable of float32[1, C, H, W]
        progress : callable (count), optional
            Called after every image.
        learns : bool
            Whether variants will learn from them: the moments that these need are then measured in
            the same pass where that is possible, and else when they are needed.

        Raises
        ------
        CalibrationError
            When there are no images, or one does not fit the model.
        """
        self._rescaled, self._proofs, self._quantized, self.choices = {}, None, {}, {}
        self._candidates = None
        self._results.start(images)
        source = self._kept(images)
        self._inputs = []
        prove = tensors_to_prove(self.folded, len(self._images))  # of images that come again
        self._moments = LearningMoments(self.folded, self._images)
        keep = prove | self._moments.start() if learns else prove

        def take(tensors: Mapping[str, NDArray[Any]]) -> None:
            self._inputs.append({name: tensors[name] for name in prove})
            self._moments.add(tensors)

        def observe(mod: Any) -> Mapping[str, TensorProfile]:
            return profiles_of(mod, source, self._workers, progress, keep=keep, take=take)

        with blas_threads(1):
            state = Quantization(
                mod=self.folded,
                observe=lambda mod: self._results.profiles((), lambda: observe(mod)),
            )
            self.profiles = dict(run_stages(FLOAT_STAGES[1:], state).profiles)
            self._moments.finish()  # of no image where profiles were kept, or made elsewhere
        give_back()
        return self.profiles

    def _kept(self, images: Iterable[NDArray[np.float32]]) -> Iterable[NDArray[np.float32]]:
        """Return `images`; the first are kept, or read again, for the variants that learn."""
        if isinstance(images, Dataset):  # 75 MB of floats for 128 images of 224×224
            self._images = Pictures(images, range(min(len(images), LEARNING_IMAGES)))
            self._all_images = Pictures(images, range(len(images)))
            return images
        kept: list[NDArray[np.float32]] = []
        self._images = self._all_images = kept
        return self._noted(images, kept)

    @staticmethod
    def _noted(
        images: Iterable[NDArray[np.float32]], kept: list[NDArray[np.float32]]
    ) -> Iterator[NDArray[np.float32]]:
        for image in images:
            if len(kept) < LEARNING_IMAGES:
                kept.append(image)
            yield image

    def quantize(self, variant: str | QuantOptions, progress: LearnProgress | None = None) -> Any:
        """Return the integer Relax module of a variant, by name or by options.

        Parameters
        ----------
        variant : str or QuantOptions
        progress : callable (done, total, what), optional
            Told of the steps of a learner.

        Raises
        ------
        CalibrationError
            When the variant is unknown, or needs profiles and `calibrate` did not run.
        CapacityError
            When accumulators may overflow.
        """
        self._progress = progress
        if variant == STOCK_RELAY:
            return StockRelay()(self.model.mod)  # it folds BatchNorm its own way
        if not isinstance(variant, str):
            return self._quantize(variant)
        if variant in KEPT:
            return self._quantize(self._kept_options(variant))
        known = VARIANTS | STEPS
        if variant not in known:
            raise CalibrationError(
                "variant",
                f"must be among {', '.join((STOCK_RELAY, *known))}",
                got=variant,
                hint="choose one of these",
            )
        if variant in (MIXED, *_WITH_MIXED):  # whose bits depend on more than is known here
            self.choices[variant] = self._choice(variant)
        else:
            self.choices[variant] = self._results.value(
                "choice", Choice, variant, lambda: self._choice(variant)
            )
        return self.form(self.choices[variant].chosen)

    def _choice(self, variant: str) -> Choice:
        """Choose among the candidates of a variant."""
        names = ALTERNATIVES.get(variant, (variant,)) if self._images else (variant,)
        chosen, candidates = variant, tuple[Candidate, ...]()
        if len(names) > 1:
            if self._candidates is None:
                self._candidates = Candidates(
                    self.folded,
                    self._images,
                    classifies=self.model.classes is not None,
                    form=self.form,
                    learn=self._quantize,
                )
            candidates = self._candidates.of(names)
            chosen = self._candidates.choose(candidates).name
        learns = RECIPES[chosen].options.learns
        return Choice(
            variant=variant,
            chosen=chosen,
            candidates=candidates,
            layers=tuple(self._proven(learns).values()) if learns else (),
        )

    def _kept_options(self, name: str) -> QuantOptions:
        """Return the options that keep the integers of a model that is quantized already."""
        if self.kept is None:
            raise CalibrationError(
                name,
                "must be given a model that is quantized already, whose integers are kept",
                got=self.model.name,
                hint="choose another variant, or give --qdq keep",
            )
        return kept_options(name, self.kept)

    def deviation(self, quantized: Any) -> Deviation | None:
        """Return how far a quantized module's scales are from the file's; None without such."""
        plan = quantization_plan(quantized)
        if self.kept is None or plan is None:
            return None
        return deviation(self.folded, self.kept, plan)

    def form(self, name: str) -> Any:
        """Return the integer module of a recipe of `VARIANTS` or `STEPS` as it stands.

        `quantize` returns the selected candidate instead.
        """
        if name not in self._quantized:
            options = self._options_of(name)
            form = self._quantize(options)
            if name not in _COMPARED or not options.learns:
                return form  # soon made again
            self._quantized[name] = form
        return self._quantized[name]

    def options_of(self, variant: str) -> QuantOptions:
        """Return the options of a variant's selected candidate; not of stock Relay's quantization.

        Raises
        ------
        CalibrationError
            When it keeps the integers of a model that has none, or has bits that nothing chooses.
        """
        if variant in KEPT:
            return self._kept_options(variant)
        chosen = self.choices[variant].chosen if variant in self.choices else variant
        return self._options_of(chosen)

    def _options_of(self, name: str) -> QuantOptions:
        """Return the options of a recipe; those of `mixed` with the bits that are chosen."""
        options = RECIPES[name].options
        if name != MIXED:
            return options
        if self._choose_widths is None:
            raise CalibrationError(
                name, "must be given the bits of its layers", hint="give what chooses them"
            )
        return options.with_widths(self._choose_widths(self))

    def profiles_of(self, variant: str) -> Mapping[str, TensorProfile]:
        """Return the profiles of the float tensors that a variant's integers stand for.

        Passes that scale channels change these tensors; they were profiled again then.
        """
        choice = self.choices.get(variant)
        if choice is None:
            return self.profiles
        options = RECIPES[choice.chosen].options.for_machine(self.config)
        if "images" not in options.needs or not self._images:
            return self.profiles
        return self._profiled_again(self.passed(options.passes), options.passes)

    @property
    def images(self) -> Sequence[NDArray[np.float32]]:
        """The calibration images that are kept, float32[1, C, H, W] each."""
        return self._images

    @property
    def scheduling(self) -> tuple[bool, str]:
        """Whether schedules are searched, and what the forms of inputs are chosen by."""
        return self.schedules is not None, self.objective

    def _quantize(
        self,
        options: QuantOptions,
        trial: Trial | None = None,
        *,
        after: After | None = None,
        stop: str | None = None,
    ) -> Any:
        """Return the Relax module of these very options, learned from a part of a trial.

        Of integers, unless a stage to stop after is named.
        """
        options = options.for_machine(self.config)
        if options.learner is not None:
            options = replace(options, learner=self._learning(options.learner))
        if after is None and stop is None:
            part = None if trial is None else tuple(trial.learn or ())
            return self._results.module((options, part), lambda: self._made(options, trial))
        return self._made(options, trial, after=after, stop=stop)

    def _made(
        self,
        options: QuantOptions,
        trial: Trial | None,
        *,
        after: After | None = None,
        stop: str | None = None,
    ) -> Any:
        """Run the stages of `_quantize`."""
        learned_from = self._all_images if trial is None else self._parts_of(trial)

        def measure(mod: Any) -> LayerMoments:
            """Collect the moments once for variants in a row, whatever their channels' order."""
            ordered = _only_orders(options.passes)
            key, source = ((), self.folded) if ordered else (options.passes, mod)
            if trial is None:
                found = self._moments.of(source, key)
            else:
                if key not in trial.moments:
                    trial.moments[key] = self._moments.on(source, trial.learn or ())
                found = trial.moments[key]
            return reordered_moments(found, self._orders) if ordered else found

        def observe(mod: Any) -> Mapping[str, TensorProfile]:
            return self._profiled_again(mod, options.passes)

        with blas_threads(1):
            proofs = self._proven(options.learns)
            passed = self.passed(options.passes)
            give_back()
            state = Quantization(
                mod=self.folded,
                profiles=self.profiles,
                options=options,
                measure=measure,
                observe=observe,
                proofs=proofs,
                images=(lambda: learned_from) if learned_from else None,
                progress=self._progress,
                kept=self._kept_blocks,
                passed=passed,
            )
            return run_stages(upto(INTEGER_STAGES, stop), state, after).mod

    def results_key(self, name: str, compiled: CompiledModel, *facts: object) -> str:
        """Return what the results of a compiled variant depend on; "" where that has no key."""
        choice = self.choices.get(name)
        own = (self._results.digest, name, choice and choice.chosen, *facts)
        return compiled_key(compiled.quantized, compiled.programs, own) if own[0] else ""

    def _proven(self, learns: bool) -> Mapping[str, LayerProof]:
        """Return how each layer learns; where nothing does, what is known of it."""
        if learns and self._images and self._proofs is None:
            found = self._results.value(
                "proofs",
                dict,
                None,
                lambda: prove_layers(
                    self.folded,
                    self._images,
                    block=self.config.block,
                    known=self._inputs[: len(self._images)],
                ),
            )
            self._proofs = found
        return self._proofs or {}

    def _parts_of(self, trial: Trial) -> Sequence[NDArray[np.float32]]:
        """Return the images that a trial learns from."""
        return [self._images[i] for i in trial.learn or ()]

    def _profiled_again(self, mod: Any, passes: tuple[Any, ...]) -> Mapping[str, TensorProfile]:
        """Profile a module once for all variants with the same passes before."""
        if passes not in self._rescaled:
            with blas_threads(1):
                self._rescaled[passes] = self._results.profiles(
                    passes, lambda: profiles_of(mod, self._images, self._workers)
                )
        return self._rescaled[passes]

    def passed(self, passes: tuple[Any, ...]) -> Any:
        """Return the folded module after passes, made once for variants in a row."""
        if not passes:
            return self.folded
        if self._passed[0] != passes:
            if _only_orders(passes):
                found = passes[0].maps(self.folded)
                self._orders = input_orders(self.folded, *found)
                self._passed = passes, map_channels(self.folded, *found)
            else:
                self._passed = passes, run_passes(self.folded, passes)
        return self._passed[1]

    def float_graph(self, variant: str) -> FloatGraph | None:
        """Return the float graph that a variant was quantized from, after the same passes.

        None for stock Relay's quantization, which folds BatchNorm its own way.
        """
        if variant == STOCK_RELAY:
            return None
        options = self.options_of(variant)
        mod = self.passed(options.for_machine(self.config).passes)
        if self._floats is None or self._floats.mod is not mod:
            self._floats = FloatGraph(mod)
        return self._floats

    def moments_on(self, mod: Any, indices: Sequence[int]) -> LayerMoments:
        """Return the moments of the layers' inputs on some of the calibration images."""
        return self._moments.on(mod, indices)

    def compile(self, quantized: Any) -> CompiledModel:
        """Partition an integer module and compile VTA's parts.

        Raises
        ------
        CapacityError
            When a layer does not fit the machine.
        """
        state = run_stages(MACHINE_STAGES, self._to_compile(quantized))
        assert state.found is not None
        return CompiledModel(
            quantized=quantized,
            partitioned=state.partitioned,
            config=self.config,
            programs=state.programs,
            plan=state.plan,
            found=state.found,
            host=self._named(host_work(quantized, self.config, state.found)),
        )

    def _to_compile(self, quantized: Any) -> Compilation:
        return Compilation(
            quantized=quantized,
            config=self.config,
            schedules=self.schedules,
            objective=self.objective,
            cache=self._cache,
            each=partial(run_all, jobs=self._workers.jobs, cluster=self._workers.cluster),
        )

    def walk(self, variant: str, after: After, *, stop: str | None = None) -> None:
        """Call `after` with the result of each stage of a variant's selected candidate.

        Parameters
        ----------
        variant : str
            `calibrate` must have run, unless it needs none or `stop` is ``fold``.
        after : callable (name, result)
            See `run_stages`. Of stock Relay's quantization, which has passes of its own, told of
            ``requantize`` and what follows.
        stop : str, optional
            The last stage, a name in `STAGES`.
        """
        names = [stage.name for stage in STAGES]
        end = names.index(stop) if stop is not None else len(names)
        if variant == STOCK_RELAY:
            quantized = self.quantize(variant)
            after(INTEGER_STAGES[-1].name, quantized)
        else:
            state = Quantization(mod=self.folded, profiles=self.profiles)
            for stage in upto(FLOAT_STAGES, stop):
                after(stage.name, stage.result(state))
            if end < len(FLOAT_STAGES):
                return
            if variant not in KEPT:
                self.quantize(variant)  # settles which form it becomes
            options = self.options_of(variant)
            quantized = self._quantize(options, after=after, stop=stop)
        if end >= len(FLOAT_STAGES) + len(INTEGER_STAGES):
            run_stages(upto(MACHINE_STAGES, stop), self._to_compile(quantized), after)

    def _named(self, host: HostWork) -> HostWork:
        """Return the host's work with the names of ONNX nodes."""
        origins = {**self.model.origins, **self.origins}

        def named(fallbacks: tuple[Fallback, ...]) -> tuple[Fallback, ...]:
            nodes = [(fallback, origins.get(fallback.name)) for fallback in fallbacks]
            return tuple(
                f if node is None else replace(f, node=node.label, node_type=node.operator)
                for f, node in nodes
            )

        return replace(
            host,
            fallbacks=named(host.fallbacks),
            before=named(host.before),
            behind=named(host.behind),
        )


def _only_orders(passes: tuple[Any, ...]) -> bool:
    """Whether passes change the order of channels alone: the moments are the same but for that."""
    return len(passes) == 1 and isinstance(passes[0], PermuteChannels)
