"""Learned steps are kept where images held apart say so."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np
import pytest

from relay_passes.calibration.moments import Moments, collect_moments
from relay_passes.calibration.profiling import profile
from relay_passes.graph import constant, read_graph
from relay_passes.numerics import quantize
from relay_passes.params import QuantParams
from relay_passes.quantize_model import prepare
from relay_passes.rounding.second_order import USUAL_DAMPING, SecondOrderRounder
from relay_passes.selection.prove_layers import (
    prove_layers,
    splits,
    tensors_to_prove,
    usual_places,
)
from tests.relay_passes.models import CNN, images, residual_net


@pytest.mark.parametrize("count", [2, 3, 8, 40, 47, 48, 125, 128])
def test_no_image_teaches_and_judges(count: int) -> None:
    found = splits(count)
    for learn, judge in found:
        assert learn and judge and not set(learn) & set(judge)
        assert set(learn) | set(judge) <= set(range(count))
    if count < 48:
        assert sorted(i for _, judge in found for i in judge) == list(range(count))
    else:
        assert len(found) == 1 and len(found[0][1]) == count // 3


def test_nothing_judges_a_single_image() -> None:
    assert splits(1) == []
    assert prove_layers(prepare(residual_net()), images(1)) == {}


def test_few_images_give_more_pixels() -> None:
    assert [usual_places(n) for n in (1, 8, 40, 125, 1000)] == [1536, 1500, 300, 96, 96]


def dense_net() -> Any:
    """Return a network whose dense layer sees one window of 60 values an image."""
    net = CNN((1, 60, 1, 1))
    return prepare(net.module(net.head(net.data, 12)))


def low_rank(count: int, rank: int, seed: int) -> list[Any]:
    """Images in a few directions, with a little of all others."""
    directions = np.random.default_rng(0).normal(0, 1, (rank, 60))
    rng = np.random.default_rng(seed)
    return [
        (rng.normal(0, 1, rank) @ directions + rng.normal(0, 0.02, 60))
        .astype(np.float32)
        .reshape(1, 60, 1, 1)
        for _ in range(count)
    ]


def white(count: int, seed: int) -> list[Any]:
    return images(count, (1, 60, 1, 1), seed)


def test_learning_pays_where_inputs_are_alike() -> None:
    proof = prove_layers(dense_net(), low_rank(55, 4, 1))["dense0.acc"]
    assert proof.damping == USUAL_DAMPING and proof.gain_db > 3


def test_white_inputs_from_few_images_teach_nothing() -> None:
    proof = prove_layers(dense_net(), white(8, 1))["dense0.acc"]
    assert proof.damping > 10 * USUAL_DAMPING


def held_out_error(net: Any, data: list[Any], damping: float) -> float:
    """Error of the dense layer on other images, learned from `data` with a damping."""
    moments = collect_moments(net, data)
    weight: Any = next(
        constant(b.value.args[1]) for b in read_graph(net).bindings if b.var.name == "dense0.acc"
    )
    params = QuantParams(scale=(float(np.abs(weight).max()) / 127,))
    q = SecondOrderRounder(moments=moments, dampings={"dense0.acc": damping})(
        "dense0.acc", weight.T, params
    ).T
    x = np.stack([image.ravel() for image in white(200, 9)])
    return float(np.square(x @ (weight - params.scale[0] * q)).sum())


def test_of_many_images_only_scarce_layers_are_tried() -> None:
    assert prove_layers(dense_net(), low_rank(60, 4, 1)) == {}  # 60 windows of 60 values
    net = CNN((1, 3, 12, 12))
    mod = prepare(net.module(net.head(net.relu(net.conv(net.data, 64)))))
    assert set(prove_layers(mod, images(50))) == {"dense0.acc"}
    assert set(prove_layers(mod, images(4))) == {"conv0.acc", "dense0.acc"}


def test_what_profiling_kept_need_not_be_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    net = dense_net()
    data = low_rank(55, 3, seed=0)
    keep = tensors_to_prove(net, len(data))
    assert keep
    known: list[Any] = []
    profiles = profile(net, data, keep=keep, take=known.append)
    assert profiles.keys() == profile(net, data).keys() and len(known) == 55
    want = prove_layers(net, data)

    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("the module ran")

    monkeypatch.setattr("relay_passes.calibration.moments.HostModule", never)
    assert prove_layers(net, data, known=known) == want
    with pytest.raises(AssertionError, match="ran"):  # of other images
        prove_layers(net, data, known=known[1:])


def test_of_few_images_nothing_is_kept() -> None:
    assert not tensors_to_prove(dense_net(), 47)


def test_what_is_chosen_is_better_on_other_images() -> None:
    net, data = dense_net(), white(8, 1)
    chosen = prove_layers(net, data)["dense0.acc"].damping
    assert held_out_error(net, data, chosen) < 0.9 * held_out_error(net, data, USUAL_DAMPING)


def test_infinite_damping_rounds_to_nearest() -> None:
    rng = np.random.default_rng(0)
    weight = rng.normal(0, 1, (6, 20)).astype(np.float32)
    params = QuantParams(scale=(0.1,))
    moments = Moments(
        mean=np.zeros(20, np.float32), covariance=np.cov(rng.normal(0, 1, (20, 15))), samples=15
    )
    rounder = SecondOrderRounder(moments={"a": moments}, dampings={"a": inf})
    np.testing.assert_array_equal(rounder("a", weight, params), quantize(weight, params))
