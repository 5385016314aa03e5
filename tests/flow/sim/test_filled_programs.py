"""Programs with borders in every engine of the runtime module, run after run, and saved."""

from __future__ import annotations

import json
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm_ffi
from program_file import join_sections

from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.program.program import VERSIONS, Program
from flow.program.program_file import read_sections
from flow.sim.core_library import core_function
from flow.sim.oracle import ENGINE_FUNCTION
from relay_passes.partition.layers import PostOp, Subgraph, TensorSpec
from tests.flow.compiler.networks import conv, max_pool, requantize, subgraph
from tests.relay_passes.layer_oracle import run_subgraph
from vta_config.errors import ArtifactError
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


def program(preset: str = "small") -> Program:
    """Compile it; on `small` the input, a tensor inside and an output have a border."""
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
    module = make(program("default"))  # the machine of the library; the input has a border there
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


def changed(**changes: bytes) -> bytes:
    """Return the program's file with other sections."""
    sections = {
        tag: bytes(data) for tag, data in read_sections(program().to_bytes(), VERSIONS, "x").items()
    }
    file = join_sections(sections | changes)
    return file[:8] + struct.pack("<I", 4) + file[12:]


def refuse(sentence: str, file: bytes) -> None:
    with pytest.raises(ArtifactError, match=f"^program.*: {sentence}.*compile it again$"):
        core_function("vta.create_module")("vta_0", file)["layers"]()


def test_fills_that_are_wrong() -> None:
    end = program().arena_bytes

    def fills(sentence: str, *numbers: int) -> None:
        refuse(sentence, changed(FILLS=struct.pack(f"<{len(numbers)}I", *numbers)))

    fills("must have whole records in FILLS, got 8", 0, 16)
    fills(r"must have bytes in \[0, 255\] in FILLS, got 256", 0, 16, 256)
    fills("must have fills one behind the other, got 31", 16, 16, 1, 31, 1, 1)
    fills("must have fills that lie in the arena, got 17", end - 16, 17, 1)
    fills("must have fills that lie in the arena", (1 << 32) - 1, (1 << 32) - 1, 1)


def test_borders_that_are_wrong() -> None:
    meta = json.loads(bytes(read_sections(program().to_bytes(), VERSIONS, "x")["META"]))
    layers = {layer["name"]: layer for layer in meta["layers"]}
    assert layers["a"]["border"] == [1, 1, 1, 1, -128] and "border" not in layers["d"]

    def border(sentence: str, value: object) -> None:
        layers["a"]["border"] = value
        refuse(sentence, changed(META=json.dumps(meta).encode()))

    border("must describe layers by name", [1, 1])
    border("must describe layers by name", "wide")
    for size in (-1, 1 << 30, 1 << 40, (1 << 62) + 1):
        border("must have dimensions of at least 1 that fit the arena", [size, 0, 0, 0, 0])
    border("must lie in the arena of", [1 << 12, 1, 1, 1, 0])


def test_what_a_tensor_may_be() -> None:
    """Outputs may have a border; a kind has a byte for what is outside, and nothing above it."""
    records = bytes(read_sections(program().to_bytes(), VERSIONS, "x")["TENSORS"])
    words = list(struct.unpack(f"<{len(records) // 4}I", records))
    assert words[16 + 1] == 0x80 << 16  # of c: -128 outside

    def tensors(sentence: str, at: int, value: int) -> None:
        other = [*words[:at], value, *words[at + 1 :]]
        refuse(sentence, changed(TENSORS=struct.pack(f"<{len(other)}I", *other)))

    tensors(r"must have tensor kinds in \[0, 1\], got 16777216", 1, 1 << 24)
    tensors("must have plain outputs, got another form", 16 + 12, 3)
