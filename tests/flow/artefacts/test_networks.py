"""Artefacts run: the programs alone and the library give the same bits, on every engine."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from flow.artefacts.load import load_artefact
from flow.artefacts.manifest import InputTensor, OutputTensor
from flow.artefacts.networks import (
    EngineChoice,
    ProgramRunner,
    dequantized,
    direct_network,
    library_network,
    open_network,
    quantized,
)
from flow.sim.program_sim import ProgramSim
from flow.system.limits import DEFAULT, Limits
from tests.flow.several_inputs import three_inputs
from tests.flow.small_artefacts import compiled_of
from vta_config.errors import ArtifactError, CapacityError

IMAGE = np.random.default_rng(0).normal(size=(1, 3, 8, 8)).astype(np.float32)


def test_quantized_is_the_equation() -> None:
    tensor = InputTensor(
        program="p", position=0, name="x", shape=(1, 1, 1, 6), scale=0.5, multiplier=2.0,
        zero_point=-3, qmin=-128, qmax=127,
    )  # fmt: skip
    image = np.array([[0.0, 0.25, 0.2, -0.25, -0.26, 1e9]], np.float32)
    assert quantized(image, tensor).ravel().tolist() == [-3, -2, -3, -3, -4, 127]
    assert quantized(image, tensor).shape == (1, 1, 1, 6)


def test_dequantized_is_the_equation() -> None:
    tensor = OutputTensor(
        program="p", position=0, name="y", dtype="int32", shape=(1, 2, 1, 1), scale=(0.5, 0.25),
        zero_point=1,
    )  # fmt: skip
    numbers = np.array([[[[3]], [[-3]]]], np.int32)
    found = dequantized(numbers, tensor)
    assert found.ravel().tolist() == [1.0, -1.0] and found.dtype == np.float32


@pytest.mark.parametrize("engine", ["fsim", "tsim", "oracle"])
def test_programs_alone_and_library_agree(one: Path, engine: str) -> None:
    artefact, choice = load_artefact(one), EngineChoice(name=engine)
    direct, library = direct_network(artefact, choice), library_network(artefact, choice)
    for scale in (0.1, 1, 30):
        np.testing.assert_array_equal(direct(IMAGE * scale), library(IMAGE * scale))
    assert direct(IMAGE).shape == (5,)


def test_the_library_is_loaded_only_where_it_is_needed(copy_of_one: Path, two: Path) -> None:
    artefact = load_artefact(copy_of_one)
    (copy_of_one / "library.so").unlink()
    assert np.isfinite(open_network(artefact)(IMAGE)).all()
    assert np.isfinite(open_network(load_artefact(two))(IMAGE)).all()


def test_library_tells_of_each_program(two: Path) -> None:
    heard = []
    artefact = load_artefact(two)
    network = library_network(artefact, hear=lambda *call: heard.append(call))
    network(IMAGE)
    assert [symbol for symbol, _, _ in heard] == ["vta_0", "vta_1"]
    for program, (_, inputs, outputs) in zip(artefact.programs, heard, strict=True):
        again = (
            ProgramSim(program)
            .run([x.reshape(p.shape) for x, p in zip(inputs, program.inputs, strict=True)])
            .outputs
        )
        for mine, theirs in zip(again, outputs, strict=True):
            np.testing.assert_array_equal(mine.ravel(), theirs.ravel())


def test_several_inputs(tmp_path: Path) -> None:
    compiled = compiled_of(three_inputs(), tmp_path / "three.onnx")
    assert compiled.save_artefact(tmp_path / "a") == ""
    artefact = load_artefact(tmp_path / "a")
    assert artefact.manifest is not None
    names = [given.name for given in artefact.manifest.network_inputs]
    assert names == ["left", "right", "row"]
    row = np.random.default_rng(1).normal(size=(1, 3 * 64 + 5 * 64 + 7)).astype(np.float32)
    want = compiled.networks()[0](row)
    np.testing.assert_array_equal(library_network(artefact)(row), want)
    np.testing.assert_array_equal(open_network(artefact)(row), want)


def test_driver(one: Path, fake_driver: Path) -> None:
    artefact = load_artefact(one)
    driver = EngineChoice(name="driver", driver=fake_driver, driver_timeout_s=60)
    np.testing.assert_array_equal(
        direct_network(artefact, driver)(IMAGE), direct_network(artefact)(IMAGE)
    )
    with pytest.raises(ArtifactError, match="must be a loadable shared library"):
        direct_network(artefact, EngineChoice(name="driver", driver=one / "none.so"))


def test_a_program_above_the_limits(one: Path, tmp_path: Path) -> None:
    (program,) = load_artefact(one).programs
    with pytest.raises(CapacityError, match="must take at most 5 steps, got"):
        ProgramRunner(program, EngineChoice(), Limits(max_steps=5))
    folder = Path(shutil.copytree(one, tmp_path / "x"))
    few = load_artefact(folder, limits=Limits(max_steps=5, max_bytes=DEFAULT.max_bytes))
    for network in (direct_network, library_network):
        with pytest.raises(CapacityError, match="must take at most 5 steps, got"):
            network(few)
