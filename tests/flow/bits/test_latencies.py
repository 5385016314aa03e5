"""What is no layer is counted with the layer after it."""

from __future__ import annotations

from flow.bits.latencies import by_layer


def test_what_is_no_layer_goes_with_the_next() -> None:
    timed = [("conv1", 10), ("pool", 3), ("conv2", 20), ("average", 1), ("fc", 5), ("add", 2)]
    assert by_layer(timed, ["conv1", "conv2", "fc"]) == {"conv1": 10, "conv2": 23, "fc": 8}


def test_layers_of_the_host_take_nothing() -> None:
    assert by_layer([("pool", 3), ("conv2", 20)], ["conv1", "conv2"]) == {"conv1": 0, "conv2": 23}
    assert by_layer([], ["conv1"]) == {"conv1": 0}
    assert by_layer([("pool", 3)], ["conv1", "fc"]) == {"conv1": 0, "fc": 3}


def test_layers_in_two_programs() -> None:
    timed = [("conv1", 10), ("pool", 3), ("conv1", 4)]
    assert by_layer(timed, ["conv1"]) == {"conv1": 17}
