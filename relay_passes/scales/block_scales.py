"""Choose scales of which only the ratios that hardware shifts by are powers of two.

An accumulator becomes int8 by a right shift n: s_x * s_w * 2^n = s_y. Activations may therefore
have any scale, the best one for what they hold, if the weight's scale follows:

    s_w[b] = s_y / (s_x * 2^n[b]),

one shift for each block b of output channels, which costs nothing on VTA. A residual is added as
acc += m * skip, so s_skip = m[b] * s_y / 2^n[b] with integers m; that moves s_y by less than 1 %.

Where a sum adds two layers that nothing else reads, as at a residual block's downsample, both may
go into one accumulator (a *pair*): n[b] is then the largest shift at which the weights of both fit,
or one more, where clipping the few largest of one layer does less harm than the coarse steps of the
other. They are chosen as one layer, whose weights are those of both, each times its input's scale.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import floor, log2
from typing import Final

import numpy as np
from numpy.typing import NDArray

from relay_passes.calibration.observers import MeanSquare, Observer, second_moment, square_error
from relay_passes.graph import Expr, Module, dtype_of, read_graph, source_name
from relay_passes.numerics import scale_for
from relay_passes.operators.averages import averaged, is_average
from relay_passes.operators.calls import is_move, weight_rows
from relay_passes.params import Granularity, QuantParams, TensorProfile
from relay_passes.requirements import PROFILES, SHR_REGISTER, Need
from relay_passes.scales.accumulators import AccumulatorEnd, fused_ends, paired_layers
from relay_passes.scales.bit_widths import Precision
from relay_passes.scales.factors import fitted_scale, products
from relay_passes.scales.scales import EIGHT_BITS, Scales, largest_weights
from relay_passes.scales.ties import ties_of
from vta_config.errors import CalibrationError

#: A residual's multiplier is an integer up to here (a diagonal weight) times a power of two.
MAX_MULTIPLIER: Final = 127
#: The power is at most 2^4: a diagonal weight is used up to 16 times.
MAX_OCTAVES: Final = 4
#: GEMM steps of a layer for which its residual may take one: about 3 % of the layer's time.
_STEPS_A_RESIDUAL_STEP: Final = 32
#: Shifts of a layer's channels differ by at most so many: larger ones make large constants and
#: multipliers of residuals, which take more GEMM steps.
_CHANNEL_OCTAVES: Final = 2
#: A block of tiny weights (pruned channels) is not shifted further: its bias would take more than 9
#: GEMM steps, and a unit of its weights is less than 1 % of the output's anyway.
MAX_BLOCK_SHIFT: Final = 14
#: How many larger shifts to try for a pair, of which one layer often needs them: those with which
#: the largest weights of the other are clipped.
_PAIR_CLIP: Final = 1
#: Shares of max|w| that a channel's largest integer may stand for.
_CLIPS: Final = np.linspace(1.0, 0.5, 11)


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockScales:
    """Choose any scale for activations and a shift for each block of output channels.

    Fused graphs only. An accumulator that stays one (logits) has a scale for each channel.

    Parameters
    ----------
    observer : Observer
        Turns an activation's profile into a magnitude.
    block : int
        Output channels that share a shift.
    dyadic : bool
        For machines that multiply (`Requantize` with dyadic): weights take the scales that suit
        them best, up to the integers that a residual needs, and b / 2^c is what is left.
    multipliers : tuple[int, ...]
        With `dyadic`: take only these b (times powers of two), such as those with few ones, each
        of which costs an addition where there is no MUL. Weights take the scales that are left.
    per_channel : bool
        For machines that shift by a register (capability shr_register): a shift for each channel.
    factors : tuple[float, ...]
        Output scales to try, times the observer's: powers of two suit some weights better.
    clip : int
        How many larger shifts to try, with which a block's largest weights are clipped.
    pair : bool
        Whether two layers that a sum adds share an accumulator: fewer cycles, and one rounding
        less, but fewer bits for the weights of the layer that alone would be shifted further.
    fine_residuals : bool
        Whether every residual may take 16 GEMM steps, whatever its layer takes: the multipliers are
        finer, and so are the weights' scales.
    """

    observer: Observer = field(default_factory=MeanSquare)
    block: int = 16
    dyadic: bool = False
    multipliers: tuple[int, ...] = ()
    per_channel: bool = False
    factors: tuple[float, ...] = (1.0,)
    clip: int = 0
    pair: bool = False
    fine_residuals: bool = False

    @property
    def needs(self) -> frozenset[Need]:
        """Profiles; for a shift per channel a machine that shifts by a register."""
        return PROFILES | SHR_REGISTER if self.per_channel else PROFILES

    def for_block(self, block: int) -> BlockScales:
        """Return the chooser for blocks of `block` output channels."""
        return replace(self, block=block)

    def _octaves(self, size: int) -> int:
        return MAX_OCTAVES if self.fine_residuals else residual_octaves(size, self.block)

    @property
    def _searches(self) -> bool:
        """Whether scales are tried."""
        return bool(self.clip) or len(self.factors) > 1

    @property
    def _group(self) -> int:
        """Output channels that share a shift."""
        return 1 if self.per_channel else self.block

    @property
    def _granularity(self) -> Granularity:
        return "channel" if self.per_channel else "block"

    def __call__(
        self,
        mod: Module,
        profiles: Mapping[str, TensorProfile],
        precision: Precision = EIGHT_BITS,
    ) -> Scales:
        """Return the scales of the float module `mod`.

        Raises
        ------
        CalibrationError
            When a tensor was not profiled.
        """
        graph = read_graph(mod)
        levels, limit = precision.tensor_levels, precision.weight_qmax
        tensors: dict[str, QuantParams] = {}
        weights: dict[str, QuantParams] = {}

        def profile(name: str) -> TensorProfile:
            if name not in profiles:
                raise CalibrationError(
                    name, "must have been profiled", hint="profile the graph that is quantized"
                )
            return profiles[name]

        def own(name: str) -> float:
            largest = levels(name)
            return scale_for(self.observer(profile(name), largest), largest, power_of_two=False)

        def choose(name: str, scale: float) -> None:
            tensors[name] = precision.tensor(name, scale)

        ties = ties_of(graph)
        factors = products(graph, ties)
        for param in graph.params:
            choose(param.name, max(map(own, ties.wholes(str(param.name)))))
        pairs = paired_layers(mod) if self.pair else {}
        ends = fused_ends(mod, pairs)
        bare = {v.name for b in graph.bindings if b.var.name in pairs for v in b.value.args}
        pending: dict[str, list[str]] = {}
        for name, end in ends.items():
            pending.setdefault(end.output, []).append(name)
        layers = {b.var.name: b.value for b in graph.bindings if b.var.name in ends}
        for binding in graph.bindings:
            name, value = binding.var.name, binding.value
            if dtype_of(binding.var) != "float32" or name in bare:
                continue
            source = source_name(value)
            if is_move(value) and source in tensors:
                tensors[name] = tensors[source]
            elif source in tensors and is_average(value) and (self.multipliers or not self.dyadic):
                unit = tensors[source].scale[0] / averaged(value)
                scales = []  # their ratios to a unit of the sum are b / 2^n
                for odd in sorted({_odd(b) for b in self.multipliers} or {1}):
                    first = max(0, floor(log2(own(name) * odd / unit)) - 1)
                    scales += [unit * 2.0**n / odd for n in range(first, first + 4)]
                errors = [square_error(profile(name), scale, levels(name)) for scale in scales]
                choose(name, scales[int(np.argmin(errors))])
            else:
                scale = max(map(own, ties.wholes(name)))
                if name in factors and (data := tensors.get(factors[name].data)) is not None:
                    made = max(map(own, ties.wholes(factors[name].output)))
                    scale = fitted_scale(scale, data.scale[0], made)
                choose(name, scale)
            if name in pending and (self.multipliers or not self.dyadic):
                parts = [layers[part] for part in pending[name]]
                skip = ends[pending[name][0]].skip
                rows, x = _rows(parts[0]), _input(parts[0], tensors)
                powers = [second_moment(profile(part.args[0].name)) for part in parts]
                largest = _limits(parts, [limit(part) for part in pending[name]])
                if len(parts) > 1:
                    powers = [
                        power / _input(part, tensors) ** 2
                        for power, part in zip(powers, parts, strict=True)
                    ]
                    rows, x = _joined(parts, tensors), 1.0
                layer = _Rows(rows=rows, unit=x, limit=largest, powers=_columns(parts, powers))
                start, residual = tensors[name].scale[0], tensors[skip].scale[0] if skip else 0.0
                if residual < start * 0.5**MAX_BLOCK_SHIFT:
                    residual = 0.0  # below what the sum can show: `Requantize` leaves it out
                output = profile(name), levels(name)
                fixed = ties.is_joined(name) or name in factors
                if self.multipliers:
                    chooser = replace(self, factors=(1.0,)) if fixed else self
                    choice = chooser._with_multipliers(output, start, layer, skip=residual)
                else:
                    choice = self._search(
                        output,
                        start,
                        layer,
                        clip=max(self.clip, _PAIR_CLIP if len(parts) > 1 else 0),
                        skip=residual,
                        fixed=fixed,
                    )
                choose(name, choice[0])
                for part in pending[name]:
                    unit = _input(layers[part], tensors) / x
                    own_scales = tuple(s / unit for s in choice[1].tolist())
                    weights[part] = precision.weight(part, own_scales, self._granularity)
        for name, end in ends.items():
            if name not in weights:
                both = [n for n in (name, end.partner) if n in layers]
                largest = _limits([layers[n] for n in both], [limit(n) for n in both])
                scales_of, kind = self._weight([layers[n] for n in both], end, tensors, largest)
                weights[name] = precision.weight(name, tuple(scales_of.tolist()), kind)
        return Scales(tensors=tensors, weights=weights)

    def _search(
        self,
        output: tuple[TensorProfile, int],
        start: float,
        layer: _Rows,
        *,
        clip: int,
        skip: float,
        fixed: bool,
    ) -> tuple[float, NDArray[np.float64]]:
        """Return an output's scale and its layer's weight scales, float64[groups].

        The error to make small is that of the output's own rounding, plus that of the weights,
        sum_k (w_k - s q_k)² E[x²], of an average channel.

        Parameters
        ----------
        output : (TensorProfile, int)
            Of the output, and how many steps its largest value is.
        start : float
            Scale of the output that the observer wants.
        layer : _Rows
        clip : int
            How many larger shifts to try.
        skip : float
            Scale of the residual, 0 for none.
        fixed : bool
            Whether the output's scale is that of a concatenation or a factor's, which it stays.
        """
        rows, x = layer.rows, layer.unit
        octaves = self._octaves(rows.shape[1])
        least = layer.largest(self._group) * x / layer.divisor
        best: tuple[float, float, NDArray[np.float64]] = (float("inf"), start, least)
        for factor in (1.0,) if fixed else self.factors:
            y = start * factor
            if not self.clip and not fixed:
                y = max(y, float(least.max()))  # shifts right only
            lowest, highest = 0, MAX_BLOCK_SHIFT
            if skip:  # the sum's scale must fit its residual's
                y = fit_residual(skip, y, least, octaves)
                lowest = least_shift(skip / y)
                highest = max(lowest, floor(log2(MAX_MULTIPLIER * y / skip)) + octaves)
            fits = block_shifts(y, least)
            if self.per_channel:
                highest = max(lowest, min(highest, int(fits.min()) + _CHANNEL_OCTAVES))
            shifts = [np.clip(fits + more, lowest, highest) for more in range(clip + 1)]
            errors = np.zeros((1, len(fits)))  # no choice
            if clip or len(self.factors) > 1:
                scales = (np.asarray(y / x * 0.5**n) for n in shifts)
                errors = np.stack([self._weight_error(layer, scale) for scale in scales])
            chosen = errors.argmin(axis=0)
            cost = float(errors.min(axis=0).sum()) / len(rows)
            cost += square_error(output[0], y, output[1])
            if cost < best[0]:
                taken = np.stack(shifts)[chosen, np.arange(len(fits))]
                best = cost, y, y / x * 0.5**taken
        return best[1], best[2]

    def _weight_error(self, layer: _Rows, scale: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return each block's sum of (w - s q(w))² E[x²]."""
        rows, limit = layer.rows, layer.limit
        s = np.repeat(scale, self._group)[: len(rows), np.newaxis].astype(np.float32)
        w = rows.astype(np.float32)
        error = np.square(w - s * np.clip(np.rint(w / s), -limit, limit)) @ layer.powers
        return np.asarray(np.add.reduceat(error, np.arange(0, len(rows), self._group)), np.float64)

    def _with_multipliers(
        self,
        output: tuple[TensorProfile, int],
        start: float,
        layer: _Rows,
        *,
        skip: float,
    ) -> tuple[float, NDArray[np.float64]]:
        """Return an output's scale and its layer's weight scales, for the given multipliers.

        Each block's accumulator scale is the smallest y * b / 2^c at which its weights fit, or the
        one of the least error, as in `_search`, where a search was asked for; the residual's
        (`skip`, 0 for none) must be an integer times it.
        """
        x = layer.unit
        octaves = self._octaves(layer.rows.shape[1])
        need = fitting_scales(layer.rows, self._group, layer.limit) * x
        odd = min((b for b in map(_odd, self.multipliers) if b > 1), default=1)
        best: tuple[float, float, NDArray[np.float64]] = (float("inf"), start, need)
        for factor in self.factors:
            y = start * factor
            if skip:
                y = fit_multiple(skip, y, float(need.max()), odd)
            tried = []
            for b in self.multipliers:
                lowest, highest = 0, MAX_BLOCK_SHIFT
                if skip:
                    lowest = least_shift(skip / (y * b))
                    if not _is_integer(skip / (y * b) * 2.0**lowest):
                        continue
                    highest = max(lowest, floor(log2(MAX_MULTIPLIER * y * b / skip)) + octaves)
                fits = block_shifts(y * b, need)
                for more in range(self.clip + 1):
                    tried.append(y * b * 0.5 ** np.clip(fits + more, lowest, highest))
            scales = np.stack(tried)
            if not self._searches:
                fit = np.where(scales >= need * (1 - 2.0**-19), scales, np.inf).min(axis=0)
                return y, np.where(np.isfinite(fit), fit, scales.max(axis=0)) / x
            errors = np.stack([self._weight_error(layer, scale / x) for scale in scales])
            cost = float(errors.min(axis=0).sum()) / len(layer.rows)
            cost += square_error(output[0], y, output[1])
            if cost < best[0]:
                best = cost, y, scales[errors.argmin(axis=0), np.arange(len(need))] / x
        return best[1], best[2]

    def _weight(
        self,
        both: Sequence[Expr],
        end: AccumulatorEnd,
        tensors: Mapping[str, QuantParams],
        limit: int | NDArray[np.float64],
    ) -> tuple[NDArray[np.float64], Granularity]:
        """Return the scales of a layer's weights that no search chose, and what each is of.

        Parameters
        ----------
        both : sequence of relax.Call
            The layer, and the other one of its pair.
        end : AccumulatorEnd
        tensors : dict[str, QuantParams]
            Chosen so far.
        limit : int or float64[K]
            Largest integers of the weights, as in `_Rows`.
        """
        x = _input(both[0], tensors)
        if len(both) > 1:
            rows, group = _joined(both, tensors), self._group if end.output else 1
            kind: Granularity = self._granularity if end.output else "channel"
            return fitting_scales(rows, group, limit) / x, kind
        rows = _rows(both[0])
        assert isinstance(limit, int)
        if not end.output:
            return channel_scales(rows, limit, clip=bool(self.clip)), "channel"
        best = fitting_scales(rows, self._group, limit)
        if end.skip:
            skip = tensors[end.skip].scale[0] / x
            if skip >= best.min() / 2:  # else `Requantize` leaves it out
                octaves = self._octaves(rows.shape[1])
                best = skip / np.asarray([multiplier_at_most(skip / s, octaves) for s in best])
        return best, self._granularity


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Rows:
    """Weights of a layer, or of two side by side, whose scales are chosen.

    Parameters
    ----------
    rows : float64[O, K]
        One row an output channel.
    unit : float
        Scale of the input; 1 where the rows count in units of it.
    limit : int or float64[K]
        Largest integer; one for each column where two layers have different bits.
    powers : float32[K]
        E[x²] of what each column is multiplied with.
    """

    rows: NDArray[np.float64]
    unit: float
    limit: int | NDArray[np.float64]
    powers: NDArray[np.float32]

    @property
    def divisor(self) -> int:
        """What `largest` is still to be divided by."""
        return self.limit if isinstance(self.limit, int) else 1

    def largest(self, group: int) -> NDArray[np.float64]:
        """Return max|w| of each group of channels, float64[groups]; see `divisor`."""
        rows = self.rows if isinstance(self.limit, int) else self.rows / self.limit
        return largest_weights(rows, "block", group)


def _limits(layers: Sequence[Expr], limits: Sequence[int]) -> int | NDArray[np.float64]:
    """Return the largest integer of layers side by side, for each column where they differ."""
    if len(set(limits)) == 1:
        return limits[0]
    columns = [weight_rows(value).shape[1] for value in layers]
    return np.repeat(np.asarray(limits, np.float64), columns)


def _columns(layers: Sequence[Expr], numbers: Sequence[float]) -> NDArray[np.float32]:
    """Return a number of each layer for each of its weights' columns, side by side."""
    columns = [weight_rows(value).shape[1] for value in layers]
    return np.repeat(np.asarray(numbers, np.float32), columns)


def _input(value: Expr, tensors: Mapping[str, QuantParams]) -> float:
    return tensors[value.args[0].name].scale[0]


def _rows(value: Expr) -> NDArray[np.float64]:
    """Return a layer's weight as one row an output channel."""
    return weight_rows(value).astype(np.float64)


def _joined(pair: Sequence[Expr], tensors: Mapping[str, QuantParams]) -> NDArray[np.float64]:
    """Return the rows of two layers side by side, in the unit of their inputs' integers."""
    return np.concatenate([_rows(value) * _input(value, tensors) for value in pair], axis=1)


def channel_scales(rows: NDArray[np.float64], limit: int, *, clip: bool) -> NDArray[np.float64]:
    """Return a scale per row: max|w| / limit, or with `clip` the one of least squared error."""
    peaks = np.abs(rows).max(axis=1)
    peaks = np.where(peaks > 0, peaks, limit)
    tried = peaks / limit * (_CLIPS[:, np.newaxis] if clip else np.ones((1, 1)))
    s = tried[..., np.newaxis]
    errors = [np.square(rows - t * np.clip(np.rint(rows / t), -limit, limit)).sum(1) for t in s]
    return np.asarray(tried[np.argmin(errors, axis=0), np.arange(len(rows))])


def fitting_scales(
    rows: NDArray[np.float64], block: int, limit: int | NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return each block's smallest scale at which its weights fit [-limit, limit]; 1 for zeros.

    Parameters
    ----------
    rows : float64[channels, K]
        Weights of each output channel.
    block : int
        Output channels of a block.
    limit : int or float64[K]
        Largest integer, or one for each column.

    Returns
    -------
    float64[blocks]
    """
    if not isinstance(limit, int):
        rows, limit = rows / limit, 1
    peaks = largest_weights(rows, "block", block)
    return np.asarray(np.where(peaks > 0, peaks, limit) / limit)


def block_shifts(y: float, accumulator: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the largest shifts whose accumulator scale y / 2^n is at least `accumulator`.

    Parameters
    ----------
    y : float
        Scale of the output.
    accumulator : float64[blocks]
        Smallest scale at which a block's weights fit; 0 for a block of zeros.
    """
    ratio = y / np.where(accumulator > 0, accumulator, y)
    shifts = np.floor(np.log2(ratio) + 2.0**-20)
    return np.asarray(np.clip(shifts, 0, MAX_BLOCK_SHIFT), np.int64)


def residual_octaves(size: int, block: int) -> int:
    """Return the largest j for which a residual times a * 2^j, a <= 127, takes little time.

    It takes up to 2^j GEMM steps an output element, the layer itself size / block. The price is
    that a block of small weights keeps a larger scale, which GPTQ rounding makes up for.

    Parameters
    ----------
    size : int
        Weights an output channel.
    block : int
        Of them that a GEMM step multiplies.
    """
    steps = max(1, size // (block * _STEPS_A_RESIDUAL_STEP))
    return min(MAX_OCTAVES, floor(log2(steps)))


def multiplier_at_most(ratio: float, octaves: int = MAX_OCTAVES) -> int:
    """Return the largest a * 2^j <= ratio with a <= 127 and j <= octaves; at least 1."""
    octave = min(octaves, max(0, floor(log2(max(ratio, 1.0) / (MAX_MULTIPLIER + 1))) + 1))
    power = 1 << octave
    return max(1, min(MAX_MULTIPLIER, floor(ratio / power))) * power


def least_shift(ratio: float) -> int:
    """Return the smallest n >= 0 for which ratio * 2^n is an integer."""
    return next((n for n in range(24) if _is_integer(ratio * 2.0**n)), 0)


def fit_multiple(skip: float, y: float, largest: float, odd: int) -> float:
    """Return a scale next to `y` such that skip = a * y / 2^k, a a multiple of `odd` up to 128.

    The larger a is, the nearer; but an accumulator of scale `largest` must be skip * odd / a or
    less.
    """
    most = MAX_MULTIPLIER
    while most > 2 * odd and skip * odd < largest * most:
        most //= 2
    k = floor(log2(most * y / skip))
    multiple = max(1, round(skip / y * 2.0**k / odd)) * odd
    return skip * 2.0**k / multiple


def _odd(number: int) -> int:
    """Return what is left of a number without its factors of two."""
    return number // (number & -number)


def _is_integer(x: float) -> bool:
    return x >= 0.5 and abs(x - round(x)) < 2.0**-40 * x


def fit_residual(
    skip: float, y: float, accumulator: NDArray[np.float64], octaves: int = MAX_OCTAVES
) -> float:
    """Return a scale next to `y` such that skip = m * y / 2^n with an integer m for every block.

    m = a * 2^j with a <= 127 and, while n > 0, j <= octaves for the block of the smallest shift n;
    the others have 2^k times that.
    """
    least = int(block_shifts(y * (1 - 1 / MAX_MULTIPLIER), accumulator).min())
    least = min(least, max(0, floor(log2(MAX_MULTIPLIER * y / skip)) + octaves))
    factor = skip / y * 2.0**least
    octave = max(0, floor(log2(factor / MAX_MULTIPLIER)) + 1)
    while round(factor / 2.0**octave) > MAX_MULTIPLIER:
        octave += 1
    multiplier = max(1, round(factor / 2.0**octave)) * 2**octave
    return float(skip * 2.0**least / multiplier)
