"""How far each layer's tensor is from float32's: what reports say of the layers of a variant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flow.results.evaluate import prefetch
from flow.results.layer_facts import LayerFacts
from relay_passes.numerics import centred, decibels, limited_db
from relay_passes.partition.find_layers import layer_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from flow.compiled_model import CompiledModel
    from flow.data.datasets import Dataset
    from flow.program.program import LayerRecord
    from flow.stages import Progress
    from flow.verify import Verifier
    from relay_passes.host.float_graph import FloatGraph
    from relay_passes.integers.plan import QuantPlan
    from relay_passes.operators.chain import Chain
    from relay_passes.partition.layers import Layer

#: Digits that a decibel has in reports.
_DIGITS: Final = 6
#: Bits of the weights of stock Relay's quantization.
_STOCK_BITS: Final = 8


def layer_facts(
    compiled: CompiledModel,
    verifier: Verifier,
    floats: FloatGraph | None,
    images: Dataset,
    progress: Progress,
) -> tuple[LayerFacts, ...]:
    """Return what reports say of each layer, in execution order.

    Parameters
    ----------
    compiled : CompiledModel
        The variant.
    verifier : Verifier
        Runs its integers.
    floats : FloatGraph, optional
        The float graph after the variant's passes; None: the layers have no SQNR.
    images : Dataset
        What they are compared on.
    progress : callable
        Told after every image.
    """
    records = [record for program in compiled.programs for record in program.layers]
    found = {} if floats is None else _ratios(compiled, records, verifier, floats, images, progress)
    cycles = {layer.name: layer.cycles for timed in compiled.timed for layer in timed.result.layers}
    chains = {chain.name: chain for chain in compiled.found.chains}
    return tuple(
        _facts(record, chains.get(record.name), compiled.plan, found, cycles.get(record.name))
        for record in records
    )


def _facts(
    record: LayerRecord,
    chain: Chain | None,
    plan: QuantPlan | None,
    ratios: Mapping[str, tuple[float, float]],
    cycles: int | None,
) -> LayerFacts:
    """Put together what is known of a layer."""
    tensor, is_int8 = record.output.name, record.output.dtype == "int8"
    products = () if chain is None else (chain, *chain.summands)
    layers = [layer_of(part, {var: str(var.name) for var in part.inputs}) for part in products]
    weights = [
        (layer.weight.size, _weight_bits(plan, part))
        for part, layer in zip(products, layers, strict=True)
        if layer.weight is not None
    ]
    read = None if plan is None or not layers else plan.tensors.get(_source(plan, layers[0]))
    params = None if plan is None or not is_int8 else plan.tensors.get(tensor)
    scales = set(_scales(plan, record))
    plain, middle = ratios.get(tensor, (None, None))
    return LayerFacts(
        name=record.name,
        kind=record.kind,
        tensor=tensor,
        sqnr_db=plain,
        centred_sqnr_db=middle,
        weight_bits=weights[0][1] if weights else None,
        activation_bits=None if read is None else read.bits,
        scale=scales.pop() if len(scales) == 1 else None,
        zero_point=None if params is None else params.zero_point,
        cycles=cycles,
        macs=layers[0].macs if layers else 0,
        weight_bytes=sum(-(-size * bits // 8) for size, bits in weights),
    )


def _source(plan: QuantPlan, layer: Layer) -> str:
    """Return the plan's name of the tensor that a layer reads; the input has another one."""
    planned = (own.inputs[0] for own in plan.layers if own.name == layer.name and own.inputs)
    return next(planned, layer.inputs[0])


def _weight_bits(plan: QuantPlan | None, chain: Chain) -> int:
    """Return the bits of a product's weights; without a plan those of stock Relay."""
    params = None if plan is None else plan.weights.get(str(chain.anchor.var.name))
    return _STOCK_BITS if params is None else params.bits


def _scales(plan: QuantPlan | None, record: LayerRecord) -> tuple[float, ...]:
    """Return the scales of a layer's tensor: one, or one per block or channel; none if unknown."""
    if plan is None:
        return ()
    if record.output.dtype == "int8":
        params = plan.tensors.get(record.output.name)
        return () if params is None else params.scale
    planned = next((layer for layer in plan.layers if layer.name == record.name), None)
    return () if planned is None else plan.accumulator_scales(planned)


def _ratios(
    compiled: CompiledModel,
    records: Sequence[LayerRecord],
    verifier: Verifier,
    floats: FloatGraph,
    images: Dataset,
    progress: Progress,
) -> dict[str, tuple[float, float]]:
    """Return SQNR and centred SQNR of each tensor that float32 has, too."""
    plan = compiled.plan
    compared: dict[str, tuple[NDArray[np.float64], int]] = {}  # scales of channels, zero point
    for record in records:
        tensor = record.output.name
        if plan is None or tensor not in floats.calls:
            continue
        params = plan.tensors.get(tensor) if record.output.dtype == "int8" else None
        if scales := _scales(plan, record):
            zero = 0 if params is None else params.zero_point
            compared[tensor] = np.asarray(scales, np.float64), zero
    sums: dict[str, NDArray[np.float64]] = {}
    for index, image in enumerate(prefetch(images)):
        integers, reals = verifier.reference(image), floats.run(image)
        for tensor, (scale, zero) in compared.items():
            want, got = np.asarray(reals[tensor], np.float64), integers[tensor]
            if want.size == got.size:
                real = _real(got, scale, zero, plan.block if plan else 1)
                sums[tensor] = sums.get(tensor, 0.0) + _squares(want, real)
        progress(index + 1, len(images))
    return {
        tensor: (_db(signal, noise), _db(middle, rest))
        for tensor, (signal, noise, middle, rest) in sums.items()
        if np.isfinite([signal, noise]).all()
    }


def _real(
    integers: NDArray[Any], scale: NDArray[np.float64], zero: int, block: int
) -> NDArray[np.float64]:
    """Return the reals that integers [N, C, ...] stand for, with one scale or one per channel."""
    channels = integers.shape[1]
    if len(scale) not in (1, channels):  # one per block
        scale = np.repeat(scale, block)[:channels]
    steps = integers.astype(np.float64) - zero
    return np.asarray(steps * scale.reshape(-1, *[1] * (integers.ndim - 2)))


def _squares(want: NDArray[np.float64], got: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return Σ ref², Σ (value - ref)², and both after the mean is subtracted."""
    want, got = want.reshape(1, -1), got.reshape(1, -1)
    middle, own = centred(want), centred(got)
    return np.array(
        [np.square(x).sum() for x in (want, got - want, middle, own - middle)], np.float64
    )


def _db(signal: float, noise: float) -> float:
    return round(limited_db(decibels(signal, noise)), _DIGITS)
