"""The lines of a report about bits."""

from __future__ import annotations

from flow.results.bits_lines import bits_lines
from relay_passes.integers.plan import LayerPlan, QuantPlan
from relay_passes.params import QuantParams


def plan(*bits: int) -> QuantPlan:
    """Return a plan of layers conv0, conv1, ... that read a tensor of their weights' bits."""
    return QuantPlan(
        tensors={f"x{b}": QuantParams(scale=(1.0,), bits=b) for b in bits},
        weights={f"conv{i}": QuantParams(scale=(1.0,), bits=b) for i, b in enumerate(bits)},
        layers=tuple(
            LayerPlan(name=f"conv{i}", inputs=(f"x{b}",), operators=(f"conv{i}",))
            for i, b in enumerate(bits)
        ),
    )


def test_layers_by_their_bits() -> None:
    plans = [("stock", None), ("best", plan(8, 8)), ("w4a4", plan(8, 4, 4)), ("narrow", plan(4))]
    assert bits_lines(plans) == [
        "bits       w4a4: weights 8, activations 8 in 1 layer (conv0); "
        "weights 4, activations 4 in 2 layers (conv1, conv2)",
        "           narrow: weights 4, activations 4 in 1 layer (conv0)",
    ]
    assert bits_lines(plans[:2]) == []


def test_of_many_layers_the_first_are_named() -> None:
    (line,) = bits_lines([("w", plan(*[4] * 9))])
    assert line == (
        "bits       w: weights 4, activations 4 in 9 layers (conv0, conv1, conv2 and 6 more)"
    )
    (line,) = bits_lines([("w", plan(*[4] * 4))])
    assert line.endswith("in 4 layers (conv0, conv1, conv2, conv3)")
