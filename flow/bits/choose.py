"""Choose the bits of the variant `mixed`: sensitivities, costs, and HAWQ-V3's integer program."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import product
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flow.bit_request import BitRequest, Bound
from flow.bits.kept import Kept, key_of, numbers_fit
from flow.bits.latencies import LEAST_GAIN, Meter
from flow.results.bit_choice import BitChoice, LayerBits
from flow.system.threads import available_cores, blas_threads
from relay_passes.scales.bit_widths import Widths
from relay_passes.selection.bit_costs import (
    BOPS,
    LATENCY,
    SIZE,
    LayerFacts,
    bit_operations,
    input_ties,
    layer_facts,
    size_bytes,
)
from relay_passes.selection.bit_program import (
    BitProgram,
    Bits,
    Solution,
    cost_range,
    listed,
    number,
    shown,
    solve,
)
from relay_passes.selection.hessian import hessian_sensitivity, on_the_scale_of
from relay_passes.selection.prove_layers import splits
from relay_passes.selection.sensitivity import measured_sensitivity, rank_correlation
from relay_passes.variants import MIXED, RECIPES
from vta_config.errors import CalibrationError, LimitError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flow.bit_request import Sensitivity
    from flow.pipeline import Pipeline
    from vta_config.hardware import VTAConfig

#: What the ends of a network have, and layers that nothing is said of.
WIDE: Final[Bits] = (8, 8)
#: A program may take another share of cycles than the sum of its layers.
TOLERANCE: Final = 0.005
#: How often the integer program is solved again with what a program really took.
MOST_ROUNDS: Final = 5
#: The share of the range where no limit is given.
USUAL_SHARE: Final = 0.5
#: Called with how much is done and how much there is.
Progress = Callable[[int, int], None]


def machine_choices(config: VTAConfig) -> tuple[Bits, ...]:
    """Return the pairs of bits that a machine is chosen from, the narrowest first.

    4-bit weights are fewer bytes on every machine; 4-bit activations are less work only where its
    operands are so narrow.
    """
    narrow = config.inp_bits < max(WIDE)
    return ((4, 4), (4, 8), (8, 4), WIDE) if narrow else ((4, 8), WIDE)


class BitChooser:
    """What bits can be chosen by, measured once for any number of limits.

    Parameters
    ----------
    pipeline : Pipeline
        Calibrated.
    request : BitRequest
        Of which `limits` are those of `choose` by default.
    cache : Path, optional
        A JSON file that what takes long is kept in.
    progress : callable (done, total), optional

    Raises
    ------
    LimitError
        When a layer is unknown, or fixed bits contradict each other.
    CalibrationError
        When there are no calibration images.
    ConfigError
        When the Hessian is asked for without PyTorch.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        request: BitRequest,
        *,
        cache: Path | None = None,
        progress: Progress | None = None,
    ) -> None:
        """Measure sensitivities and latencies."""
        if not pipeline.images:
            raise CalibrationError(
                MIXED, "must have calibration images to choose bits", hint="give --calibration DIR"
            )
        self._pipeline, self._request = pipeline, request
        self._progress = progress or (lambda done, total: None)
        self._kept = Kept(cache)
        self.layers = layer_facts(pipeline.folded)
        if not self.layers:
            raise LimitError(
                MIXED,
                "must have layers whose weights are constants",
                got="none",
                hint="choose another variant",
            )
        self._meter = Meter(pipeline, self.layers, cache)
        self._fixed = self._fixed_bits(request.fixed)
        free = request.widths or machine_choices(pipeline.config)
        #: What layers may have that are not fixed, the widest first.
        self.free_choices = tuple(sorted(free, key=lambda bits: (-bits[0] * bits[1], -bits[0])))
        both = {*free, *self._fixed.values()}
        self.choices = tuple(sorted(both, key=lambda bits: (bits[0] * bits[1], bits[0])))
        allowed = np.array([[choice in free for choice in self.choices]] * len(self.layers))
        for row, layer in enumerate(self.layers):
            if layer.name in self._fixed:
                allowed[row] = [choice == self._fixed[layer.name] for choice in self.choices]
        pairs = [Widths(weight_bits=w, activation_bits=a) for w, a in self.choices]
        self._empty = BitProgram(
            layers=tuple(layer.name for layer in self.layers),
            choices=self.choices,
            perturbation=np.zeros(allowed.shape),
            costs={
                SIZE: size_bytes(self.layers, pairs),
                BOPS: bit_operations(self.layers, pairs),
            },
            allowed=allowed,
            ties=input_ties(self.layers),
            fixed=self._fixed,
        )
        self.omegas = self._sensitivities()
        self.cycles = self._latencies()
        self._remarks: tuple[str, ...] = ()
        self.program = replace(
            self._empty,
            perturbation=self._table(self.omegas[request.sensitivity]),
            costs={**self._empty.costs, LATENCY: self._flat(self._table(self.cycles))},
        )

    # ---- what there is to choose from ------------------------------------------------------------
    def _fixed_bits(self, given: Mapping[str, Bits]) -> dict[str, Bits]:
        """Return the bits of layers that have no choice, by name: the ends' and those given."""
        names = {x.tensor: x.name for x in self.layers} | {x.name: x.name for x in self.layers}
        for name in given:
            if name not in names:
                raise LimitError(
                    "--fix-bits",
                    f"must name layers of the model: {listed(x.name for x in self.layers)}",
                    got=name,
                    hint="take a name of that list",
                )
        ends = {layer.name: WIDE for layer in self.layers if layer.is_end}
        return ends | {names[name]: bits for name, bits in given.items()}

    def _sensitivities(self) -> dict[Sensitivity, dict[str, dict[Bits, float]]]:
        """Return Ω by layer and bits: measured, and the Hessian's on the same scale if asked for.

        The Hessian knows of no activations: what is measured of them is added.
        """
        measured = self._omegas("measured", self._measured)
        result: dict[Sensitivity, dict[str, dict[Bits, float]]] = {}
        result["measured"] = self._named(measured)
        if self._request.sensitivity == "hessian":
            scaled = on_the_scale_of(measured, self._omegas("hessian", hessian_sensitivity))
            widest = max(a for _, a in self.choices)
            whole = {
                tensor: {
                    widths: omega
                    + measured[tensor][widths]
                    - measured[tensor][replace(widths, activation_bits=widest)]
                    for widths, omega in row.items()
                }
                for tensor, row in scaled.items()
            }
            result["hessian"] = self._named(whole)
        return result

    def _omegas(
        self, source: Sensitivity, measure: Callable[..., dict[str, dict[Widths, float]]]
    ) -> dict[str, dict[Widths, float]]:
        """Return the perturbations of one kind by tensor, kept from another time where they are."""
        pipeline = self._pipeline
        grid = [
            Widths(weight_bits=w, activation_bits=a)
            for w, a in product(*(sorted(set(bits)) for bits in zip(*self.choices, strict=True)))
        ]
        names = {
            (layer.tensor, widths): f"{layer.tensor} {shown(_pair(widths))}"
            for layer in self.layers
            for widths in grid
        }

        def found() -> dict[str, float]:
            options = RECIPES[MIXED].options.for_machine(pipeline.config)
            table = measure(
                pipeline.passed(options.passes),
                pipeline.profiles,
                pipeline.images,
                grid,
                options=options,
                progress=self._progress,
            )
            return {name: table[tensor][widths] for (tensor, widths), name in names.items()}

        key = key_of(pipeline, source, len(pipeline.images))
        values = self._kept.get(key, found, numbers_fit(list(names.values())))
        return {
            layer.tensor: {widths: values[names[layer.tensor, widths]] for widths in grid}
            for layer in self.layers
        }

    def _measured(
        self, mod: Any, profiles: Any, images: Any, grid: Any, *, options: Any, progress: Progress
    ) -> dict[str, dict[Widths, float]]:
        """Measure with weights learned and biases corrected, on all cores.

        A layer's error is far too small on images that its weights were learned from. So some
        images are kept for measuring; a single one must serve for both.
        """
        every = range(len(images))
        learn, judge = next(iter(splits(len(images))), (every, every))
        with blas_threads(1):
            moments = self._pipeline.moments_on(mod, learn)
            return measured_sensitivity(
                mod,
                profiles,
                (images[i] for i in judge),
                grid,
                options=options,
                moments=moments,
                workers=available_cores(),
                progress=progress,
            )

    def _named(self, table: Mapping[str, Mapping[Widths, float]]) -> dict[str, dict[Bits, float]]:
        """Return a table by names of layers and pairs of bits, of those that can be chosen."""
        return {
            layer.name: {
                _pair(widths): omega
                for widths, omega in table[layer.tensor].items()
                if _pair(widths) in self.choices
            }
            for layer in self.layers
        }

    # ---- what programs take ----------------------------------------------------------------------
    def _latencies(self) -> dict[str, dict[Bits, int]]:
        """Return the cycles of each layer at each pair of bits that it may have."""
        found: dict[str, dict[Bits, int]] = {layer.name: {} for layer in self.layers}
        for count, choice in enumerate(reversed(self.choices)):
            bits = self.nearest(choice)
            for name, cycles in self._meter.cycles(bits).items():
                found[name].setdefault(bits[name], cycles)
            self._progress(count + 1, len(self.choices))
        return found

    def nearest(self, choice: Bits) -> dict[str, Bits]:
        """Return the bits of a network whose layers are all as near to a pair as they may be."""
        away = [abs(w - choice[0]) + abs(a - choice[1]) for w, a in self.choices]
        table = np.tile(np.array(away, float), (len(self.layers), 1))
        return dict(solve(replace(self._empty, perturbation=table)).bits)

    def _table(self, values: Mapping[str, Mapping[Bits, float]]) -> NDArray[np.float64]:
        """Return float64[layers, choices]; NaN where there is no value."""
        return np.array(
            [
                [values[layer.name].get(choice, np.nan) for choice in self.choices]
                for layer in self.layers
            ]
        )

    def _flat(self, cycles: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return latencies in which widths that save next to nothing save nothing."""
        widest = len(self.choices) - 1
        reference = np.array(
            [row[~np.isnan(row)][-1] if (~np.isnan(row)).any() else 0.0 for row in cycles]
        )
        result = np.where(np.isnan(cycles), reference[:, None], cycles)
        for column in range(widest):
            if result[:, column].sum() > (1 - LEAST_GAIN) * reference.sum():
                result[:, column] = reference
        return result

    # ---- the choice ------------------------------------------------------------------------------
    def limits(self, bounds: Sequence[Bound]) -> dict[str, float]:
        """Return limits as numbers, in cycles, bytes and bit operations.

        Raises
        ------
        LimitError
            When one cost has two.
        """
        result: dict[str, float] = {}
        for bound in bounds:
            if bound.cost in result:
                raise LimitError(
                    f"--max-{bound.cost}", "must be given once", got="two", hint="leave one out"
                )
            if bound.unit == "share":
                least, widest = cost_range(self.program, bound.cost)
                result[bound.cost] = least + bound.value * (widest - least)
            else:
                hz = self._pipeline.config.clock_hz if bound.unit == "seconds" else 1
                result[bound.cost] = bound.value * hz
        return result

    @property
    def usual_bounds(self) -> tuple[Bound, ...]:
        """What holds where no limit is given: what the machine gains by."""
        config = self._pipeline.config
        narrow = min(config.inp_bits, config.wgt_bits) < max(WIDE)
        return (Bound(cost="latency" if narrow else "size", value=USUAL_SHARE),)

    def costs(self, bits: Mapping[str, Bits]) -> dict[str, float]:
        """Return the sums of each cost at the bits of each layer; of latency those predicted."""
        columns = [self.choices.index(bits[layer.name]) for layer in self.layers]
        rows = range(len(self.layers))
        return {name: float(t[rows, columns].sum()) for name, t in self.program.costs.items()}

    def choose(self, bounds: Sequence[Bound] | None = None) -> BitChoice:
        """Return the bits that harm least within the limits.

        Where the program takes other cycles than the sum of its layers, by more than `TOLERANCE`
        or so that a limit is passed, its own are put in place of theirs and it is chosen again.

        Parameters
        ----------
        bounds : sequence of Bound, optional
            By default those of the request.

        Raises
        ------
        LimitError
            When no choice keeps the limits.
        """
        limits = self.limits(bounds or self._request.limits or self.usual_bounds)
        ranges = {name: cost_range(self.program, name) for name in self.program.costs}
        program, rounds = self.program, 0
        while True:
            rounds += 1
            found = solve(program, limits)
            took = self._meter.cycles(found.bits)
            measured, predicted = sum(took.values()), found.costs[LATENCY]
            near = abs(measured - predicted) <= TOLERANCE * predicted
            kept = measured <= limits.get(LATENCY, measured)
            if (near and kept) or rounds == MOST_ROUNDS:
                break
            program = self._as_measured(program, found, took)
        return self._choice(found, limits, ranges, measured, rounds)

    def _as_measured(
        self, program: BitProgram, found: Solution, took: Mapping[str, int]
    ) -> BitProgram:
        """Return the program with the cycles that layers took in the one that was chosen."""
        table = np.array(program.costs[LATENCY])
        for row, layer in enumerate(self.layers):
            table[row, self.choices.index(found.bits[layer.name])] = took[layer.name]
        return replace(program, costs={**program.costs, LATENCY: table})

    def _choice(
        self,
        found: Solution,
        limits: Mapping[str, float],
        ranges: Mapping[str, tuple[float, float]],
        measured: int,
        rounds: int,
    ) -> BitChoice:
        return BitChoice(
            layers=tuple(self._layer(layer, found.bits[layer.name]) for layer in self.layers),
            sensitivity=self._request.sensitivity,
            perturbation=found.perturbation,
            limits=limits,
            ranges=ranges,
            costs=found.costs,
            measured_cycles=measured,
            rounds=rounds,
            remarks=tuple(self._sentences(limits, ranges, measured)),
            agreement=self._agreement(),
        )

    def _layer(self, layer: LayerFacts, bits: Bits) -> LayerBits:
        return LayerBits(
            name=layer.name,
            bits=bits,
            fixed=layer.name in self._fixed,
            weights=layer.weights,
            macs=layer.macs,
            cycles=self.cycles[layer.name],
            omega={source: table[layer.name] for source, table in self.omegas.items()},
        )

    def _sentences(
        self,
        limits: Mapping[str, float],
        ranges: Mapping[str, tuple[float, float]],
        measured: int,
    ) -> list[str]:
        least, widest = ranges[LATENCY]
        found = []
        if widest and least == widest and len(self.choices) > 1:
            machine = self._pipeline.config.name
            found.append(
                f"fewer bits buy no cycle on {machine}: a limit on latency leaves "
                f"{self.choices[-1][0]} bits everywhere"
            )
        if measured > limits.get(LATENCY, measured):
            found.append(
                f"the program takes {measured:,} cycles, more than the limit of "
                f"{number(limits[LATENCY])}, which the sum of its layers keeps"
            )
        return found

    def _agreement(self) -> float | None:
        """Return the rank correlation of both sensitivities over what layers may choose."""
        if "hessian" not in self.omegas:
            return None
        pairs = [
            tuple(self.omegas[source][layer.name][bits] for source in ("measured", "hessian"))
            for layer in self.layers
            if layer.name not in self._fixed
            for bits in self.choices[:-1]
        ]
        value = rank_correlation([p[0] for p in pairs], [p[1] for p in pairs])
        return None if isnan(value) else value


def _pair(widths: Widths) -> Bits:
    return widths.weight_bits, widths.activation_bits
