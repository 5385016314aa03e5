"""The quantization plan: its forms, its JSON, and what it refuses."""

from __future__ import annotations

import json
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from relay_passes.integers.plan import LayerPlan, QuantPlan, SumPlan, expanded, grouped
from relay_passes.params import QuantParams, Requant
from relay_passes.scales.bit_widths import Widths
from vta_config.errors import ArtifactError, CalibrationError


def plan() -> QuantPlan:
    shift = Requant(
        multiplier=(1, 1), shift=(7, 9), ratio=(Fraction(1, 1 << 7), Fraction(1, 1 << 9))
    )
    third = Requant(multiplier=(43,), shift=(7,), ratio=(Fraction(1 / 3),))
    return QuantPlan(
        tensors={
            "data": QuantParams(scale=(0.1,), limit=119),
            "y": QuantParams(scale=(0.2,), signed=False),
            "pool": QuantParams(scale=(0.2,), signed=False, zero_point=-128),
        },
        weights={"conv.acc": QuantParams(scale=(0.5, 0.25), bits=4, granularity="block")},
        block=8,
        layers=(
            LayerPlan(
                name="conv",
                inputs=("data",),
                operators=("conv.acc", "y"),
                output="y",
                requant=shift,
            ),
            LayerPlan(
                name="pool", inputs=("y",), operators=("pool",), output="pool", requant=third
            ),
            LayerPlan(name="dense", inputs=("pool",), operators=("dense.acc",)),
        ),
        sums={"sum": SumPlan(first="conv", second="data", multiplier=(3, 12))},
        host={"other": "the operands have no common integer scale"},
        floats={"z": "its scale is not a power of two times the scale of its operand"},
    )


def test_json_brings_the_plan_back() -> None:
    text = json.dumps(plan().to_json(), allow_nan=False)
    assert QuantPlan.from_json(json.loads(text)) == plan()
    layers = json.loads(text)["layers"]
    assert layers[0]["shift"] == [7, 9] and layers[0]["relative_error"] == 0.0
    assert layers[1]["relative_error"] == pytest.approx(43 / 128 * 3 - 1)
    assert "shift" not in layers[2]


def test_a_limit_is_written_where_there_is_one() -> None:
    tensors = plan().to_json()["tensors"]
    assert tensors["data"]["limit"] == 119 and "limit" not in tensors["y"]
    assert tensors["pool"]["zero_point"] == -128 and "zero_point" not in tensors["y"]


def test_bits_of_the_layers() -> None:
    assert plan().widths() == {"conv.acc": Widths(weight_bits=4)}


def test_layers_by_output() -> None:
    assert {name: layer.name for name, layer in plan().by_output().items()} == {
        "y": "conv", "pool": "pool",
    }  # fmt: skip


def change(path: str, value: Any) -> dict[str, Any]:
    result = plan().to_json()
    *parents, last = path.split("/")
    owner: Any = result
    for key in parents:
        owner = owner[int(key) if isinstance(owner, list) else key]
    owner[last] = value
    return result


@pytest.mark.parametrize(
    "values",
    [
        None,
        [],
        {},
        change("block", "16"),
        change("block", True),
        change("tensors", []),
        change("tensors/data", {"scale": [-1.0]}),
        change("tensors/data/bits", 99),
        change("tensors/data/limit", 128),
        change("tensors/data/limit", "119"),
        change("tensors/data/granularity", "row"),
        change("layers/0/shift", [7.5, 9]),
        change("layers/0/shift", [7]),
        change("layers/0/multiplier", [0, 1]),
        change("layers/0/ratio", [1e999, 1.0]),
        change("layers/0/output", ""),
        change("sums/sum/multiplier", [-1]),
        change("sums/sum/first_shift", [2]),
    ],
)
def test_nonsense_is_no_plan(values: Any) -> None:
    with pytest.raises(
        ArtifactError, match=r"^net\.vta: must be a quantization plan, got .*again$"
    ):
        QuantPlan.from_json(values, "net.vta")


def test_numbers_a_channel() -> None:
    one, blocks, channels = np.full(5, 3), np.asarray([1, 1, 1, 2, 2]), np.arange(5)
    for values, short in ((one, [3]), (blocks, [1, 2]), (channels, [0, 1, 2, 3, 4])):
        np.testing.assert_array_equal(grouped(values, 3), short)
        np.testing.assert_array_equal(expanded(short, 5, 3, "conv"), values)
    sentence = (
        "conv: must have 3 channels, or blocks of 3, as its quantization plan says, got 5 channels;"
        " make the plan for this graph, with the same options"
    )
    with pytest.raises(CalibrationError, match=sentence):
        expanded((1, 2, 3), 5, 3, "conv")


def test_sums_and_layers_are_checked() -> None:
    assert SumPlan(first="a", second="b", multiplier=(0,)).left_out
    assert not SumPlan(first="a", second="b").left_out
    with pytest.raises(
        CalibrationError, match=r"a \+ b: must have multipliers and left shifts of a"
    ):
        SumPlan(first="a", second="b", first_shift=(-1,))
    with pytest.raises(CalibrationError, match=r"a \+ b: must be multiplied or shifted, not both"):
        SumPlan(first="a", second="b", multiplier=(3,), second_shift=(1,))
    with pytest.raises(CalibrationError, match=r"conv\.requant: must be given with an output, and"):
        LayerPlan(name="conv", inputs=(), operators=("conv",), output="y")
