"""Programs with borders in every engine of the runtime module, run after run, and saved."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm_ffi

from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.program.program import Program
from flow.sim.core_library import core_function
from flow.sim.oracle import ENGINE_FUNCTION
from relay_passes.partition.layers import PostOp, Subgraph, TensorSpec
from tests.flow.compiler.networks import conv, max_pool, requantize, subgraph
from tests.relay_passes.layer_oracle import run_subgraph
from vta_config.hardware import VTAConfig

X = TensorSpec(name="x", shape=(1, 20, 9, 11), dtype="int8")


def network() -> Subgraph:
    """Return residual blocks whose tensors, input and first output are padded with -128."""
    rng = np.random.default_rng(1)
    window: dict[str, Any] = {"padding": (1, 1, 1, 1), "pad_value": -128}
    a = conv(rng, "a", X, 24, (3, 3), **window)
    b = conv(rng, "b", a, 24, (3, 3), **window)
    bias, *rest = requantize(rng, 24, 11)
    skip = (bias, PostOp(op="add_tensor", value=3, tensor="a"), *rest)
    c = conv(rng, "c", b, 24, (3, 3), **window, post_ops=skip)
    pool = max_pool("pool", c, 3, 2, 1)
    d = conv(rng, "d", c, 8, (3, 3), **window, stride=(2, 2))
    graph = subgraph((a, b, c, pool, d), X)
    outputs = tuple(
        TensorSpec(name=p.output, shape=p.out_shape, dtype="int8") for p in (c, pool, d)
    )
    return Subgraph(symbol="vta_0", inputs=(X,), outputs=outputs, layers=graph.layers)


GRAPH = network()


def program(preset: str = "default") -> Program:
    config = VTAConfig.load(preset)
    return make_program(GRAPH, lower(GRAPH, config), config)


def make(made: Program) -> Any:
    return core_function("vta.create_module")("vta_0", made.to_bytes())


def check_calls(module: Any, *, calls: int = 3, seed: int = 0) -> None:
    """Call with other numbers each time: nothing of a run may be left in a border."""
    rng = np.random.default_rng(seed)
    for _ in range(calls):
        x = rng.integers(-128, 128, X.shape).astype(np.int8)
        expected = run_subgraph(GRAPH, [x])
        found = [np.zeros(spec.shape, np.int8) for spec in GRAPH.outputs]
        module["vta_0"](x, *found)
        for spec, tensor in zip(GRAPH.outputs, found, strict=True):
            np.testing.assert_array_equal(tensor, expected[spec.name], err_msg=spec.name)


@pytest.mark.parametrize("preset", ["default", "small", "w4", "w4a4"])
@pytest.mark.parametrize("engine", ["fsim", "tsim", ENGINE_FUNCTION])
def test_engines(preset: str, engine: str) -> None:
    module = make(program(preset))
    module["set_engine"](engine.removeprefix("vta.engine."), "")
    check_calls(module, calls=1 if engine == ENGINE_FUNCTION else 3)


@pytest.mark.parametrize("preset", ["default", "w4a4"])
def test_every_layer_can_be_seen(preset: str) -> None:
    module = make(program(preset))
    x = np.random.default_rng(2).integers(-128, 128, X.shape).astype(np.int8)
    expected = run_subgraph(GRAPH, [x])
    names = [str(name) for name in module["layers"]()]
    for name, tensor in zip(names, module["taps"](x), strict=True):
        np.testing.assert_array_equal(np.from_dlpack(tensor), expected[name], err_msg=name)


def test_drivers(fake_driver: Path) -> None:
    """Memory of a driver is not cleared: borders are written when the program is placed."""
    module = make(program())
    module["set_engine"]("driver", str(fake_driver))
    check_calls(module)


def test_instances_in_threads() -> None:
    failed: list[BaseException] = []

    def work(module: Any, seed: int) -> None:
        try:
            check_calls(module, seed=seed)
        except BaseException as error:
            failed.append(error)

    modules = [make(program()) for _ in range(3)]
    threads = [threading.Thread(target=work, args=(modules[seed % 3], seed)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed


def test_saved_and_loaded() -> None:
    load = tvm_ffi.get_global_func("ffi.Module.load_from_bytes.vta")
    check_calls(load(b"5\nvta_0" + program().to_bytes()))
