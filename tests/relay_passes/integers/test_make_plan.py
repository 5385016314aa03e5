"""From scales to integers: every number of a plan by hand, and graphs that it does not fit."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from tvm import relax

from relay_passes.graph import constant, op_name, read_graph
from relay_passes.integers.fuse_conv_relu import FuseConvRelu
from relay_passes.integers.integer_facts import host_reasons
from relay_passes.integers.make_plan import make_plan
from relay_passes.integers.plan import LayerPlan, QuantPlan, SumPlan
from relay_passes.integers.quantize import Quantize
from relay_passes.integers.requantize import Requantize
from relay_passes.params import QuantParams, Requant
from relay_passes.quantize_model import prepare
from relay_passes.scales.scales import Scales
from tests.relay_passes.integers.stages import FLOATS, PLAN
from tests.relay_passes.models import CNN
from vta_config.errors import CalibrationError


def scales(tensors: dict[str, float], weights: dict[str, Any]) -> Scales:
    """Return scales of tensors, and of weights as one number or several a block."""
    return Scales(
        tensors={name: QuantParams(scale=(scale,)) for name, scale in tensors.items()},
        weights={
            name: QuantParams(scale=scale, granularity="block")
            if isinstance(scale, tuple)
            else QuantParams(scale=(scale,))
            for name, scale in weights.items()
        },
    )


def residual() -> Any:
    """Return relu(conv1(relu(conv0(data))) + relu(conv0(data))), then conv2."""
    net = CNN()
    x = net.relu(net.conv(net.data, 6))
    y = net.relu(net.add(net.conv(x, 6), x))
    return prepare(net.module(net.conv(y, 2)))


#: Free scales, of which the ratios that matter are 2^n, and the residual's an integer: three times
#: the accumulator's in the first block of four, twelve times in the second.
RESIDUAL = scales(
    {"data": 0.3, "conv0": 9.0, "conv0.relu": 0.1, "conv1": 9.0, "conv1.add": 9.0}
    | {"conv1.add.relu": 0.1 * 64 / 3, "conv2": 1.0},
    {
        "conv0.acc": (0.1 / 0.3 / 16, 0.1 / 0.3 / 64),
        "conv1.acc": (1 / 3, 1 / 12),
        "conv2.acc": 0.01,
    },
)


def shifts(*values: int) -> Requant:
    return Requant(
        multiplier=(1,) * len(values),
        shift=values,
        ratio=tuple(Fraction(1, 1 << n) for n in values),
    )


def test_every_integer_by_hand() -> None:
    plan = make_plan(residual(), RESIDUAL, block=4)
    assert (plan.tensors, plan.weights) == (RESIDUAL.tensors, RESIDUAL.weights)
    assert plan.layers == (
        LayerPlan(
            name="conv0",
            inputs=("data",),
            operators=("conv0.acc", "conv0", "conv0.relu"),
            output="conv0.relu",
            requant=shifts(4, 6),
        ),
        LayerPlan(
            name="conv1",
            inputs=("conv0.relu", "conv0.relu"),
            operators=("conv1.acc", "conv1", "conv1.add", "conv1.add.relu"),
            output="conv1.add.relu",
            requant=shifts(6, 8),
        ),
        LayerPlan(name="conv2", inputs=("conv1.add.relu",), operators=("conv2.acc",)),
    )
    assert plan.sums == {
        "conv1.add": SumPlan(first="conv1", second="conv0.relu", multiplier=(3, 12))
    }
    assert not plan.host and not plan.floats


def test_the_plan_of_the_texts() -> None:
    """The plan written by hand beside the modules of each stage is what follows from its scales."""
    chosen = Scales(tensors=PLAN.tensors, weights=PLAN.weights)
    assert make_plan(FLOATS, chosen) == PLAN


def test_the_graph_has_the_integers_of_the_plan() -> None:
    mod = residual()
    plan = make_plan(mod, RESIDUAL, block=4)
    integers = Requantize(plan=plan)(FuseConvRelu()(Quantize(plan=plan)(mod)))
    found = [
        constant(b.value.args[1]).reshape(-1).tolist()
        for b in read_graph(integers).bindings
        if op_name(b.value) in ("right_shift", "multiply")
    ]
    assert [4, 4, 4, 4, 6, 6] in found and [6, 6, 6, 6, 8, 8] in found
    assert [3, 3, 3, 3, 12, 12] in found


def test_integers_of_another_plan_are_taken_as_they_are() -> None:
    """Nothing is found again from scales: a wrong shift of the plan arrives in the graph."""
    mod = residual()
    plan = make_plan(mod, RESIDUAL, block=4)
    first, *rest = plan.layers
    wrong = replace(plan, layers=(replace(first, requant=shifts(5)), *rest))
    integers = Requantize(plan=wrong)(FuseConvRelu()(Quantize(plan=plan)(mod)))
    names = {b.var.name: b.value for b in read_graph(integers).bindings}
    assert int(constant(names["conv0.relu.shr"].args[1])) == 5


@pytest.mark.parametrize(
    ("skip", "expected"),
    [
        (3.0, {"multiplier": (3,)}),
        (2.0, {"second_shift": (1,)}),
        (0.25, {"first_shift": (2,)}),
        (0.003, {"multiplier": (0,)}),  # 127 * 0.003 < 1/2
        (0.3, {"multiplier": (0,)}),  # no integer, and less than a unit
    ],
)
def test_ways_to_add_a_residual(skip: float, expected: dict[str, tuple[int, ...]]) -> None:
    tensors = dict.fromkeys(("conv0", "conv1", "conv1.add", "conv2"), 1.0)
    chosen = scales(
        tensors | {"data": 1.0, "conv0.relu": skip, "conv1.add.relu": 16.0},
        {"conv0.acc": skip, "conv1.acc": 1 / skip, "conv2.acc": 1.0},
    )
    plan = make_plan(residual(), chosen)
    assert plan.sums == {"conv1.add": SumPlan(first="conv1", second="conv0.relu", **expected)}
    # Where the accumulator itself is shifted left, its output is so many bits further.
    assert plan.layers[1].requant == shifts(6 if "first_shift" in expected else 4)


def test_sums_without_a_common_scale_have_multipliers_for_both() -> None:
    net = CNN()
    x = net.emit(relax.op.nn.max_pool2d(net.data, (3, 3), (1, 1), padding=(1, 1, 1, 1)))
    y = net.relu(net.add(net.relu(net.conv(net.data, 3)), x))
    mod = prepare(net.module(net.conv(y, 2)))
    names = [b.var.name for b in read_graph(mod).bindings]
    (added,) = (n for n in names if n.endswith(".add") and n != "conv0")
    tensors = dict.fromkeys([*names, "data"], 1.0) | {"conv0.relu": 0.7}
    plan = make_plan(mod, scales(tensors, {"conv0.acc": 0.7, "conv1.acc": 1.0}))
    assert not plan.host and not plan.sums
    (steps,) = plan.steps[f"{added}.relu"].parts
    added_first, added_second, *_, lowest, _ = steps.steps
    assert (added_first.value, added_second.value) == ((179,), (256,))  # 0.7 and 1, times 2^8
    assert (lowest.op, lowest.value) == ("max", (0,))
    integers = Requantize(plan=plan)(FuseConvRelu()(Quantize(plan=plan)(mod)))
    assert host_reasons(integers) == {}


def test_shifts_beyond_31_are_the_hosts() -> None:
    far = RESIDUAL.weights | {"conv2.acc": QuantParams(scale=(2.0**-50,))}
    tensors = RESIDUAL.tensors | {"conv2": QuantParams(scale=(0.1 * 64 / 3,))}
    net = CNN()
    x = net.relu(net.conv(net.data, 6))
    y = net.relu(net.add(net.conv(x, 6), x))
    mod = prepare(net.module(net.conv(net.relu(net.conv(y, 2)), 2)))
    tensors = tensors | {
        "conv2.relu": QuantParams(scale=(0.1 * 64 / 3,)), "conv3": QuantParams(scale=(1.0,))
    }  # fmt: skip
    weights = far | {"conv3.acc": QuantParams(scale=(1.0,))}
    plan = make_plan(mod, Scales(tensors=tensors, weights=weights), block=4)
    assert plan.host == {"conv2.acc": "conv2.relu: Requant.shift: must be in [-31, 31], got (50,)"}
    integers = Requantize(plan=plan)(FuseConvRelu()(Quantize(plan=plan)(mod)))
    assert host_reasons(integers) == plan.host


def test_multipliers_next_to_any_ratio() -> None:
    net = CNN()
    mod = prepare(net.module(net.conv(net.relu(net.conv(net.data, 5)), 2, 1)))
    chosen = scales(
        {"data": 0.1, "conv0": 1.0, "conv0.relu": 0.07, "conv1": 1.0},
        {"conv0.acc": (0.01, 0.013), "conv1.acc": 0.01},
    )
    requant = make_plan(mod, chosen, dyadic=True, block=3).layers[0].requant
    assert requant is not None and len(requant.multiplier) == 2  # one a block
    for b, c, meant in zip(requant.multiplier, requant.shift, (0.01, 0.013), strict=True):
        assert b / 2**c == pytest.approx(0.1 * meant / 0.07, rel=1e-3)
        assert b % 2 == 1 and b > 1000
    exact = replace(chosen, weights=chosen.weights | {"conv0.acc": QuantParams(scale=(7 / 320,))})
    assert make_plan(mod, exact, dyadic=True, block=3).layers[0].requant == shifts(5)
    with pytest.raises(
        CalibrationError, match=r"conv0\.relu: must have a scale that is a power of two times"
    ):
        make_plan(mod, chosen, block=3)


# ---- graphs that a plan was not made for -----------------------------------------------------
def refused(plan: QuantPlan, other: QuantPlan | None = None, *, fuse: bool = True) -> str:
    """Return the sentence when a graph of `other` is requantized by `plan`."""
    pairs = Quantize(plan=other or plan)(residual())
    with pytest.raises(CalibrationError) as caught:
        Requantize(plan=plan)(FuseConvRelu()(pairs) if fuse else pairs)
    sentence = str(caught.value)
    assert sentence.endswith("; make the plan for this graph, with the same options")
    return sentence.partition(";")[0].replace(", as its quantization plan says", "")


def test_a_graph_of_other_scales_is_refused() -> None:
    plan = make_plan(residual(), RESIDUAL, block=4)
    tensors = dict(plan.tensors) | {"conv0.relu": QuantParams(scale=(0.2,))}
    assert refused(plan, replace(plan, tensors=tensors)).startswith(
        "conv0.relu: must have the scale 0.1, got 0.2"
    )
    weights = dict(plan.weights) | {"conv1.acc": QuantParams(scale=(0.5,))}
    assert refused(plan, replace(plan, weights=weights)) == (
        "conv1.acc: must have a weight with scales from 0.0833333358 to 0.333333343, got 0.5 to 0.5"
    )
    fewer = {name: params for name, params in plan.tensors.items() if name != "conv1.add.relu"}
    assert refused(replace(plan, tensors=fewer), plan).startswith(
        "conv1.add.relu: must have no scale, got 2.1333"
    )
    fewer = {name: params for name, params in plan.weights.items() if name != "conv0.acc"}
    assert refused(replace(plan, weights=fewer), plan) == (
        "conv0.acc: must have a float weight, got an int8 weight"
    )


def test_a_graph_of_another_structure_is_refused() -> None:
    plan = make_plan(residual(), RESIDUAL, block=4)
    assert refused(plan, fuse=False) == "conv0: must not be made of integers, got an accumulator"
    assert refused(replace(plan, sums={})) == "conv1.add: must be no sum, got conv1 + conv0.relu"
    renamed = {"conv1.add": replace(plan.sums["conv1.add"], second="data")}
    assert refused(replace(plan, sums=renamed)) == (
        "conv1.add: must be conv1 + data, got conv1 + conv0.relu"
    )
    floats = {n: p for n, p in plan.weights.items() if n != "conv0.acc"}
    assert refused(plan, replace(plan, weights=floats)) == (
        "conv0.relu: must be made of integers, got floats"
    )
    first, *rest = plan.layers
    three = replace(plan, layers=(replace(first, requant=shifts(4, 5, 6)), *rest))
    assert refused(three) == ("conv0.relu: must have 3 channels, or blocks of 4, got 6 channels")
