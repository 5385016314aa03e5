"""What changes would save: each is compiled again and timed by tsim."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from flow.compiler.search import Compiling
from flow.explain.again import Network
from flow.explain.candidates import Candidate, candidates, multipliers
from flow.machines.axes import sram_bytes
from flow.results.explanation import Change
from relay_passes.rounding.nearest import NearestRounder
from relay_passes.scales.bit_widths import UniformWidths, Widths
from relay_passes.variants import KEPT, STOCK_RELAY
from vta_config.errors import FlowError

if TYPE_CHECKING:
    from flow.pipeline import Pipeline
    from flow.stages import Progress
    from relay_passes.quant_options import QuantOptions
    from vta_config.hardware import VTAConfig

#: Calibration images that passes look at, where a network is quantized again.
IMAGES: Final = 2
#: The most layers before a layer that are compiled with it.
_MOST_BEFORE: Final = 4
#: By how much a layer with its neighbours may differ from the network, to be tried alone.
_MOST_DIFFERENCE: Final = 0.05
_OWN_NUMBERS: Final = "the model is quantized already, and its weights are kept"
_STOCK: Final = f"{STOCK_RELAY} has weights of 8 bits only"


class CannotApply(Exception):
    """A change is none for this network; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A network that was compiled, and how it may be again.

    Parameters
    ----------
    pipeline : Pipeline
        What quantized it.
    variant : str
        Its variant in that pipeline.
    quantized : tvm.IRModule
        Its integers.
    how : Compiling
        How its programs were compiled.
    cycles : mapping of str to int
        What its layers take, in execution order.
    """

    pipeline: Pipeline
    variant: str
    quantized: Any
    how: Compiling
    cycles: Mapping[str, int]

    @property
    def machine(self) -> VTAConfig:
        """The machine that it was compiled for."""
        return self.pipeline.config

    def options(self) -> QuantOptions | None:
        """Return how it was quantized; None for stock Relay's quantization."""
        return None if self.variant == STOCK_RELAY else self.pipeline.options_of(self.variant)

    def again(self, machine: VTAConfig, weight_bits: int | None) -> Any:
        """Quantize it for another machine, with weights rounded to nearest.

        That does not change what instructions there are, but where a requantization takes another
        number of steps.

        Raises
        ------
        CannotApply
            When the weights cannot have these bits.
        """
        pipeline = self.pipeline.on_machine(machine, IMAGES)
        options = self.options()
        if options is None or self.variant in KEPT:
            if weight_bits is not None:
                raise CannotApply(_STOCK if options is None else _OWN_NUMBERS)
            return pipeline.quantize(STOCK_RELAY if options is None else options)
        return pipeline.quantize(with_bits(plain(options), weight_bits))


def machines_that_take(subject: Subject, operator: str) -> tuple[str, ...]:
    """Return the changes with which VTA runs an operator that it refuses here, by their names.

    Parameters
    ----------
    subject : Subject
    operator : str
        The name of its layer.
    """
    found = []
    for candidate in candidates(subject.machine, subject.how.objective):
        if candidate.machine is None or candidate.objective is not None:
            continue
        try:
            quantized = (
                subject.again(candidate.machine, candidate.weight_bits)
                if candidate.quantizes
                else subject.quantized
            )
            network = Network.of(quantized, candidate.machine)
        except (CannotApply, FlowError):
            continue
        if operator in network.layers:
            found.append(candidate.name)
    return tuple(found)


def plain(options: QuantOptions) -> QuantOptions:
    """Return options without what changes only values, and takes long."""
    return replace(options, rounder=NearestRounder(), correct_bias=False, learner=None)


def with_bits(options: QuantOptions, weight_bits: int | None) -> QuantOptions:
    """Return options with other bits of all weights; None: as they are."""
    if weight_bits is None:
        return options
    known = options.widths
    inner = known.inner if isinstance(known, UniformWidths) else Widths()
    return options.with_widths(UniformWidths(inner=replace(inner, weight_bits=weight_bits)))


@dataclass(slots=True, kw_only=True)
class WhatIf:
    """Try changes on a network, or on one of its layers.

    Parameters
    ----------
    subject : Subject
    layer : str, optional
        The layer; by default the network.
    """

    subject: Subject
    layer: str | None = None
    _before: int = field(default=0, init=False)
    _alone: bool = field(default=False, init=False)
    _own: dict[str, int] = field(default_factory=dict, init=False)
    _plain: dict[str, int] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """See how this machine does, and whether a layer can be tried without the network."""
        subject = self.subject
        if self.layer is None:
            self._own = dict(subject.cycles)
            return
        cycles = subject.cycles[self.layer]
        network = Network.of(subject.quantized, subject.machine)
        self._before = _layers_before(self.layer, network.layers, subject.cycles)
        try:
            self._own = network.cycles_beside(self.layer, self._before, subject.how)
        except FlowError:  # a layer needs more than its neighbours
            self._own = {}
        found = self._own.get(self.layer, 0)
        self._alone = abs(found - cycles) <= _MOST_DIFFERENCE * cycles
        if not self._alone:
            self._own = dict(subject.cycles)

    @property
    def alone(self) -> bool:
        """Whether the layer is tried with its neighbours, not the network."""
        return self._alone

    def changes(self, progress: Progress = lambda *_: None) -> tuple[Change, ...]:
        """Try everything; return what saves most first, then what cannot be had."""
        wanted = [*candidates(self.subject.machine, self.subject.how.objective)]
        found = []
        for done, candidate in enumerate(wanted):
            progress(done, len(wanted), candidate.name)
            found.append(self._change(candidate))
        progress(len(wanted), len(wanted))
        return sort(found)

    def _change(self, candidate: Candidate) -> Change:
        machine, own = candidate.machine, self.subject.machine
        change = Change(name=candidate.name, sets=candidate.sets, reason=candidate.reason)
        if machine is None:
            return change
        change = replace(
            change,
            sram_bytes=sram_bytes(machine) - sram_bytes(own),
            multipliers=multipliers(machine) - multipliers(own),
        )
        try:
            base = self._quantized_again() if candidate.quantizes else self._own
            then = self._cycles(candidate)
        except CannotApply as problem:
            return replace(change, reason=str(problem))
        except FlowError as error:
            return replace(change, reason=f"cannot be compiled: {error}")
        head = self.layer and head_of(self.layer, base, then)
        base, then = comparable(base, then)
        if head is not None:
            return replace(change, cycles=then[head], base_cycles=base[head])
        return change.over(base, then)

    def _cycles(self, candidate: Candidate) -> dict[str, int]:
        subject, machine = self.subject, candidate.machine
        assert machine is not None
        quantized = subject.quantized
        if candidate.quantizes:
            quantized = subject.again(machine, candidate.weight_bits)
        how = replace(subject.how, objective=candidate.objective or subject.how.objective)
        return self._time(Network.of(quantized, machine), how)

    def _quantized_again(self) -> dict[str, int]:
        """Return what this machine takes for the network as it is quantized for others."""
        subject = self.subject
        options = subject.options()
        if subject.variant in KEPT or options is None or plain(options) == options:
            return self._own
        if self._plain is None:
            again = subject.again(subject.machine, None)
            self._plain = self._time(Network.of(again, subject.machine), subject.how)
        return self._plain

    def _time(self, network: Network, how: Compiling) -> dict[str, int]:
        """Compile and time what was asked for.

        Raises
        ------
        CannotApply
            When layers would stay on the host that VTA runs here.
        """
        known = set(network.layers)
        needed = self.subject.cycles if self.layer is None else [self.layer]
        if lost := [name for name in needed if name not in known]:
            reason = network.refused.get(lost[0], "")
            told = f"{len(lost):,} layers" if len(lost) > 1 else lost[0]
            raise CannotApply(f"{told} would stay on the host" + (reason and f": {reason}"))
        if self.layer is not None and self._alone:
            return network.cycles_beside(self.layer, self._before, how)
        return network.cycles(how)


def comparable(
    one: Mapping[str, int], other: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, int]]:
    """Return cycles of the same layers in both.

    A pool that is joined with the convolution before it on one machine only is counted with that
    convolution on both.
    """
    both = [name for name in one if name in other]
    return _joined(one, both), _joined(other, both)


def head_of(layer: str, one: Mapping[str, int], other: Mapping[str, int]) -> str:
    """Return the layer that `comparable` counts a layer of `one` with: itself, or one before."""
    both = [name for name in one if name in other]
    names = list(one)
    before = names[: names.index(layer) + 1]
    return next((name for name in reversed(before) if name in other), both[0])


def _joined(cycles: Mapping[str, int], heads: Sequence[str]) -> dict[str, int]:
    """Add the cycles of what is no head to the head before it, or to the first one."""
    found = dict.fromkeys(heads, 0)
    last = heads[0] if heads else ""
    for name, own in cycles.items():
        last = name if name in found else last
        if last:
            found[last] += own
    return found


def _layers_before(layer: str, layers: Sequence[str], cycles: Mapping[str, int]) -> int:
    """Return how many layers before a layer may load for it: they take as long as it does."""
    at, count, taken = layers.index(layer), 0, 0
    while count < min(at, _MOST_BEFORE) and taken < cycles[layer]:
        count += 1
        taken += cycles.get(layers[at - count], 0)
    return count


def sort(changes: Sequence[Change]) -> tuple[Change, ...]:
    """Return changes, the one that saves most first, those without a number last."""
    return tuple(sorted(changes, key=lambda c: (c.share is None, c.share or 0.0)))
