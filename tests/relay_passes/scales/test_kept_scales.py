"""The scales of a model that is quantized already, as far as a machine can."""

from __future__ import annotations

import numpy as np
import pytest
from tvm.script import ir as I
from tvm.script import relax as R

from relay_passes.graph import Module
from relay_passes.integers.deviation import deviation
from relay_passes.integers.integer_facts import quantization_plan
from relay_passes.integers.plan import QuantPlan
from relay_passes.params import TensorProfile
from relay_passes.quantize_model import prepare, quantize_model
from relay_passes.scales.kept import KeptModel, KeptTensor, KeptWeight
from relay_passes.scales.kept_scales import KeptScales
from relay_passes.variants import KEEP, KEEP_DYADIC, kept_options

RNG = np.random.default_rng(0)
#: int8[16, 16] that reaches 127 in each row.
Q = RNG.integers(-127, 128, (16, 16)).astype(np.int8)
Q[:, 0] = 127


def network(weight: np.ndarray) -> Module:
    """Make a 1x1 convolution, ReLU and another convolution."""
    w = weight.astype(np.float32).reshape(16, 16, 1, 1)

    @I.ir_module
    class Network:
        @R.function
        def main(data: R.Tensor((1, 16, 4, 4), "float32")):
            with R.dataflow():
                conv = R.nn.conv2d(data, R.const(w))
                relu = R.nn.relu(conv)
                last = R.nn.conv2d(relu, R.const(w))
                R.output(last)
            return last

    return prepare(Network)


def kept(y: float = 2.0**-5, weight: int = 127) -> KeptModel:
    return KeptModel(
        tensors={
            "data": KeptTensor(scale=2.0**-6),
            "conv.relu": KeptTensor(scale=y, qmin=0, qmax=255),
        },
        weights={name: KeptWeight(peaks=(weight,) * 16) for name in ("conv", "last")},
    )


def plan_of(mod: Module, model: KeptModel, variant: str = KEEP) -> QuantPlan:
    found = quantization_plan(quantize_model(mod, {}, kept_options(variant, model)))
    assert found is not None
    return found


def test_powers_of_two_are_kept_to_the_bit() -> None:
    mod, model = network(Q * 2.0**-8), kept()
    plan = plan_of(mod, model)
    assert plan.tensors["data"].scale == (2.0**-6,)
    assert plan.tensors["conv.relu"].scale == (2.0**-5,)
    assert plan.tensors["conv.relu"].zero_point == -128
    assert set(plan.weights["conv"].scale) == {2.0**-8}
    (first, *_) = plan.layers
    assert first.requant is not None and first.requant.shift == (9,)  # 2^-5 / 2^-14
    found = deviation(mod, model, plan)
    assert (found.tensors, found.same_tensors) == (2, 2)
    assert (found.channels, found.same_channels) == (32, 32)
    assert found.tensor_factor == found.weight_factor == 1.0


def test_a_coarser_scale_of_the_file_is_kept_where_it_fits() -> None:
    """Integers up to 63 could be twice as large, but need not be."""
    half = np.fix(Q / 2)
    half[:, 0] = 63
    mod, model = network(half * 2.0**-8), kept(weight=63)
    plan = plan_of(mod, model)
    assert set(plan.weights["conv"].scale) == {2.0**-8} and plan.weights["conv"].bits == 7
    assert deviation(mod, model, plan).same_channels == 32


def test_other_ratios_move_the_weights() -> None:
    """An output of scale 0.04: the next power of two at which the weights fit."""
    mod, model = network(Q * 2.0**-8), kept(y=0.04)
    plan = plan_of(mod, model)
    (scale,) = set(plan.weights["conv"].scale)
    assert scale == pytest.approx(0.04 / 2.0**-6 / 2**9)
    assert 2.0**-8 < scale < 2.0**-7
    found = deviation(mod, model, plan)
    assert (found.same_tensors, found.same_channels) == (2, 16)  # the last one makes logits
    assert found.weight == "conv" and found.weight_factor == pytest.approx(scale * 2.0**8)


def test_multipliers_keep_the_weights() -> None:
    mod, model = network(Q * 2.0**-8), kept(y=0.04)
    plan = plan_of(mod, model, KEEP_DYADIC)
    assert set(plan.weights["conv"].scale) == {2.0**-8}
    assert deviation(mod, model, plan).same_channels == 32
    (first, *_) = plan.layers
    assert first.requant is not None and first.requant.multiplier != (1,)
    assert first.requant.relative_error < 1e-3


def test_channels_of_a_block_share_a_scale() -> None:
    """The file has a scale a channel; a block has the largest."""
    scales = 2.0 ** -RNG.integers(8, 11, 16).astype(np.float64)
    mod = network(Q * scales[:, np.newaxis])
    plan = plan_of(mod, kept(), KEEP_DYADIC)
    assert set(plan.weights["conv"].scale) == {scales.max()}
    assert plan.weights["last"].granularity == "channel"  # nothing shifts logits
    assert np.array_equal(plan.weights["last"].scale, scales)


def test_floats_of_the_file_stay_floats() -> None:
    """Without images; with images they get a scale of their own."""
    model = KeptModel(tensors={"conv.relu": KeptTensor(scale=0.1)})
    mod = network(Q * 2.0**-8)
    scales = KeptScales(model=model)(mod, {})
    assert set(scales.tensors) == {"conv.relu"} and set(scales.weights) == {"last"}
    counts = np.zeros(2048, np.int64)
    counts[1024:] = 1
    profile = TensorProfile(
        name="data", lo=0.0, hi=1.0, histogram=counts, limit=1.0, samples=1,
        sample_hi=np.ones(1, np.float32),
    )  # fmt: skip
    with_images = KeptScales(model=model)(mod, {"data": profile})
    assert set(with_images.tensors) == {"data", "conv.relu"}
    assert set(with_images.weights) == {"conv", "last"}


def test_an_average_and_what_moves() -> None:
    """Only the input and what is pooled have numbers in the file."""

    @I.ir_module
    class Network:
        @R.function
        def main(data: R.Tensor((1, 4, 6, 6), "float32")):
            with R.dataflow():
                relu = R.nn.relu(data)
                pool = R.nn.max_pool2d(relu, pool_size=(2, 2), strides=(2, 2))
                mean = R.mean(pool, axis=[2, 3], keepdims=True)
                flat = R.reshape(mean, R.shape([1, 4]))
                R.output(flat)
            return flat

    mod = prepare(Network)
    pooled = next(n for n in ("relu0.max_pool2d", "pool", "maxpool0") if n in str(mod))
    model = KeptModel(tensors={"data": KeptTensor(scale=0.1), pooled: KeptTensor(scale=0.2)})
    scales = KeptScales(model=model)(mod, {}).tensors
    assert scales["data"].scale == (0.1,) and scales[pooled].scale == (0.2,)
    relu = next(name for name in scales if "relu" in name and name != pooled)
    assert scales[relu].scale == (0.2,)  # the pool only moves what the ReLU makes
    means = [p.scale[0] for name, p in scales.items() if p.scale[0] not in (0.1, 0.2)]
    assert means == pytest.approx([0.2 / 9 * 16] * len(means)) and means
