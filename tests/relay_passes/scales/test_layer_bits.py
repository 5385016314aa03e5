"""Which bits the tensors of a network get from the widths of its layers."""

from __future__ import annotations

from typing import Any

import pytest

from relay_passes.params import QuantParams
from relay_passes.quantize_model import prepare
from relay_passes.scales.bit_widths import Limits, UniformWidths, Widths
from relay_passes.scales.layer_bits import layers_by_input, precision_of, widths_of
from tests.relay_passes.models import residual_net
from vta_config.errors import CalibrationError

NARROW = Widths(weight_bits=4, activation_bits=4)


@pytest.fixture(scope="module")
def net() -> Any:
    return prepare(residual_net())


def test_layers_of_moved_values_share_a_tensor(net: Any) -> None:
    sources = layers_by_input(net)
    assert sources["conv0.acc"] == "data"
    assert sources["conv1.acc"] == "conv0.relu"  # by way of the max-pool
    assert sources["dense0.acc"] == "avgpool0"


def test_tensors_get_the_bits_of_their_readers(net: Any) -> None:
    widths = {"conv1.acc": NARROW, "conv3.acc": Widths(activation_bits=4)}
    found = precision_of(net, widths, Limits(weight=119))
    assert found.weights == {"conv1.acc": 4}
    assert found.tensors == {"conv0.relu": 4, "maxpool0": 4}
    assert found.tensor("maxpool0", 0.5) == QuantParams(scale=(0.5,), bits=4)
    assert found.weight("conv0.acc", (0.5,)).qmax == 119
    assert found.weight_qmax("conv1.acc") == 7 and found.tensor_levels("data") == 127


def test_uniform_widths(net: Any) -> None:
    layers = list(layers_by_input(net))
    assert widths_of(net, UniformWidths(inner=NARROW)) == dict.fromkeys(layers, NARROW)
    ends = widths_of(net, UniformWidths(inner=NARROW, ends=Widths()))
    assert ends == dict.fromkeys(layers, NARROW) | {layers[0]: Widths(), layers[-1]: Widths()}
    added = widths_of(net, UniformWidths(inner=NARROW, ends=Widths(), added=8))
    wider = {name for name in layers if added[name] != ends[name]}
    assert wider and {layers_by_input(net)[name] for name in wider} == {"conv2.add.relu"}
    assert all(added[name] == Widths(weight_bits=4) for name in wider)


def test_unknown_layer(net: Any) -> None:
    must = "^widths: must name convolutions and dense layers of the model, got conv7; its layers"
    with pytest.raises(CalibrationError, match=must):
        precision_of(net, {"conv7": NARROW})


def test_layers_that_disagree(net: Any) -> None:
    by_input: dict[str, list[str]] = {}
    for name, source in layers_by_input(net).items():
        by_input.setdefault(source, []).append(name)
    first, second = next(names for names in by_input.values() if len(names) > 1)[:2]
    must = f"widths of {second}: must have 4 activation bits as {first}, which reads the same ten"
    with pytest.raises(CalibrationError, match=must):
        precision_of(net, {first: NARROW})
    precision_of(net, {first: NARROW, second: Widths(activation_bits=4)})
