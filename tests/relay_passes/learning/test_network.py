"""The rounded network in PyTorch computes what integers compute."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from relay_passes.calibration.moments import collect_moments
from relay_passes.calibration.profiling import profile
from relay_passes.graph import read_graph
from relay_passes.host.run import HostModule
from relay_passes.learning.network import Network
from relay_passes.learning.structure import structure_of
from relay_passes.numerics import sqnr_db
from relay_passes.operators.calls import split_bias
from relay_passes.quant_options import QuantOptions
from relay_passes.quantize_model import INTEGER_STAGES, Quantization, prepare
from relay_passes.stage import run_stages, upto
from relay_passes.variants import RECIPES
from tests.relay_passes.models import CNN, images, joined_net, residual_net

torch = pytest.importorskip("torch")


def rounded(mod: Any, options: QuantOptions) -> Quantization:
    """Return the state before the plan."""
    state = Quantization(
        mod=mod,
        profiles=profile(mod, images(3)),
        options=replace(options, learner=None),
        measure=partial(collect_moments, images=images(3)),
        observe=partial(profile, images=images(3)),
    )
    return run_stages(upto(INTEGER_STAGES, "correct-bias"), state)


def network_of(state: Quantization) -> Network:
    options = state.options
    found = structure_of(
        state.mod, state.chosen, state.weights, fuse=options.fuse, block=options.block
    )
    biases = {
        str(b.var.name): split[1]
        for b in read_graph(state.mod).bindings
        if (split := split_bias(b.value)) is not None
    }
    return Network(
        state.mod,
        torch,
        found,
        state.chosen,
        state.weights,
        biases=biases,
        block=options.block,
    )


def results(network: Network, image: Any) -> Any:
    (name,) = network.structure.blocks[-1].outputs
    x = torch.from_numpy(np.asarray(image))
    with torch.no_grad():
        if "data" in network.structure.quantized:
            x = network.rounded("data", x)
        return network.run({"data": x}, [name])[name].numpy()


def depthwise_net() -> Any:
    net = CNN()
    x = net.relu(net.conv(net.data, 8))
    x = net.relu(net.conv(x, 8, groups=8))
    return net.module(net.head(net.relu(net.conv(x, 24, 1))))


def least_sqnr(variant: str, make: Any) -> float:
    """Return how near a rounded network is to its integers, in dB; depthwise with 4 bits less.

    Where a sum stands beside other tensors, its scale is only next to b / 2^c of theirs.
    """
    if make is joined_net and variant in ("best", "w4a8", "w4a4"):
        return 40
    return 25 if variant == "w4a4" and make is depthwise_net else 55


@pytest.mark.parametrize("make", [residual_net, depthwise_net])
@pytest.mark.parametrize(
    "variant", ["profiled", "profiled_fused", "per_tensor", "best", "w4a8", "w4a4", "dyadic"]
)
def test_it_computes_what_integers_compute(variant: str, make: Any) -> None:
    state = rounded(prepare(make()), RECIPES[variant].options)
    network = network_of(state)
    start = [stage.name for stage in INTEGER_STAGES].index("learn") + 1
    integers = HostModule(run_stages(INTEGER_STAGES[start:], state).mod)
    image = images(1, seed=7)[0]
    assert sqnr_db(integers(image)[0], results(network, image)) > least_sqnr(variant, make)


def test_bits_choose_between_two_integers() -> None:
    state = rounded(prepare(residual_net()), RECIPES["w4a8"].options)
    network = network_of(state)
    for name, bits in network.bits.items():
        before = network.integers(name).detach()
        with torch.no_grad():
            bits.neg_()
        after = network.integers(name).detach()
        assert float((after - before).abs().min()) == 1
        limit = network.scales.weights[name].qmax
        assert float(after.abs().max()) <= limit


def test_gradients_reach_all_that_is_learned() -> None:
    state = rounded(prepare(residual_net()), RECIPES["w4a8"].options)
    network = network_of(state)
    (name,) = network.structure.blocks[-1].outputs
    network.run({"data": torch.from_numpy(images(1)[0])}, [name])[name].square().sum().backward()
    leaves = [*network.bits.values(), *network.offsets.values(), *network.factor_logs]
    leaves += [*network.scale_logs.values(), *network.row_logs.values()]
    assert all(leaf.grad is not None for leaf in leaves)
    moved = [bool(leaf.grad.abs().sum() > 0) for leaf in leaves]
    assert sum(moved) > 0.9 * len(moved)
