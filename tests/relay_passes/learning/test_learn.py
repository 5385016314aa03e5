"""Learning block by block: what was learned is what runs."""

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
from relay_passes.learning.learn import Learner, learn
from relay_passes.learning.options import BlockLearner
from relay_passes.numerics import sqnr_db
from relay_passes.quantize_model import INTEGER_STAGES, prepare, quantize_model
from relay_passes.stage import run_stages
from relay_passes.variants import RECIPES
from tests.relay_passes.learning.test_network import depthwise_net, least_sqnr, results, rounded
from tests.relay_passes.models import CNN, images, joined_net, residual_net
from vta_config.errors import CalibrationError, ConfigError

torch = pytest.importorskip("torch")

TINY = BlockLearner(images=8, steps=4, final_steps=3, batch=4, rate=0.2)


def learner(state: Any, options: BlockLearner = TINY, **more: Any) -> Learner:
    return Learner(
        state.mod,
        state.chosen,
        state.weights,
        images(8),
        options,
        corrected=state.mod,
        fuse=state.options.fuse,
        block=state.options.block,
        **more,
    )


def dense_net() -> Any:
    net = CNN()
    return net.module(net.head(net.relu(net.conv(net.data, 20, bias=False))))


@pytest.mark.parametrize("make", [residual_net, depthwise_net, dense_net, joined_net])
@pytest.mark.parametrize("variant", ["profiled", "per_tensor", "best", "w4a8", "w4a4"])
def test_what_was_learned_is_what_runs(variant: str, make: Any) -> None:
    state = rounded(prepare(make()), RECIPES[variant].options)
    run = learner(state)
    found = run.learned()
    after = replace(state, mod=found.mod, scales=found.scales, weights=found.weights)
    start = [stage.name for stage in INTEGER_STAGES].index("learn") + 1
    integers = HostModule(run_stages(INTEGER_STAGES[start:], after).mod)
    image = images(1, seed=7)[0]
    assert sqnr_db(integers(image)[0], results(run.network, image)) > least_sqnr(variant, make)
    for name, weight in found.weights.items():
        assert int(np.abs(weight).max()) <= found.scales.weights[name].qmax


def test_the_same_seed_learns_the_same() -> None:
    state = rounded(prepare(residual_net()), RECIPES["w4a8"].options)
    first, second = learner(state).learned(), learner(state).learned()
    assert first.scales == second.scales
    assert all((first.weights[n] == w).all() for n, w in second.weights.items())
    other = learner(state, replace(TINY, seed=1)).learned()
    assert any((first.weights[n] != w).any() for n, w in other.weights.items())


def test_a_block_keeps_what_it_had_where_learning_makes_it_worse() -> None:
    state = rounded(prepare(residual_net()), RECIPES["w4a8"].options)
    run = learner(state, replace(TINY, rate=50.0, scale_rate=3.0, bias_rate=50.0, final_steps=0))
    found = run.learned()
    assert all(after >= before for _, before, after in run.log)
    assert found.scales == state.chosen
    assert all((found.weights[n] == w).all() for n, w in state.weights.items())


def test_what_is_not_learned_stays() -> None:
    state = rounded(prepare(residual_net()), RECIPES["w4a8"].options)
    options = replace(TINY, soft_bits=False, learned_scales=False)
    found = learner(state, options).learned()
    assert found.scales == state.chosen
    assert all((found.weights[n] == w).all() for n, w in state.weights.items())


def test_progress_counts_to_the_end() -> None:
    state = rounded(prepare(residual_net()), RECIPES["w4a8"].options)
    told: list[tuple[int, int, str]] = []
    learner(state, progress=lambda *step: told.append(step)).learned()
    total = 4 * TINY.steps + TINY.final_steps
    assert [done for done, _, _ in told] == list(range(1, total + 1))
    assert {of for _, of, _ in told} == {total}
    assert told[0][2] == "conv0.acc" and told[-1][2] == "whole network"


def test_large_pictures_are_learned_by_parts() -> None:
    net = CNN((1, 3, 64, 64))
    x = net.relu(net.conv(net.data, 4))
    mod = prepare(net.module(net.head(x)))
    shape = (1, 3, 64, 64)
    found = quantize_model(
        mod,
        profile(mod, images(2, shape)),
        replace(RECIPES["w4a8"].options, learner=TINY),
        measure=partial(collect_moments, images=images(2, shape)),
        images=lambda: images(2, shape),
    )
    assert read_graph(found).bindings


def test_learning_needs_images() -> None:
    mod = prepare(residual_net())
    options = replace(RECIPES["w4a8"].options, learner=TINY)
    measure, profiles = partial(collect_moments, images=images(2)), profile(mod, images(2))
    sentence = "calibration: must keep its images for weights that are learned; calibrate again"
    observe = partial(profile, images=images(2))
    with pytest.raises(CalibrationError, match=sentence):
        quantize_model(mod, profiles, options, measure=measure, observe=observe)
    sentence = "learning: must have at least one image, got 0; give calibration images"
    with pytest.raises(CalibrationError, match=sentence):
        quantize_model(mod, profiles, options, measure=measure, observe=observe, images=lambda: [])


@pytest.mark.usefixtures("no_torch")
def test_without_torch_the_sentence_says_what_to_install() -> None:
    state = rounded(prepare(dense_net()), RECIPES["w4a8"].options)
    with pytest.raises(ConfigError, match=r'must have PyTorch .*; pip install "vta-flow\[torch\]"'):
        learn(state.mod, state.chosen, state.weights, images(1), TINY)


def test_a_device_that_is_not_there() -> None:
    state = rounded(prepare(residual_net()), RECIPES["w4a8"].options)
    message = r"learning.device: must be a device that PyTorch finds here, got cuda:77; use cpu"
    with pytest.raises(ConfigError, match=message):
        learner(state, replace(TINY, device="cuda:77"))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_learns_the_same_every_time() -> None:
    state = rounded(prepare(residual_net()), RECIPES["w4a4"].options)
    options = replace(TINY, device="cuda")
    first, second = learner(state, options).learned(), learner(state, options).learned()
    assert first.scales == second.scales
    assert all((first.weights[n] == w).all() for n, w in second.weights.items())
