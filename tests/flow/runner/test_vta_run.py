"""The board runner gives the bytes that fsim gives, here and on 32-bit ARM."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from flow.artefacts.load import load_artefact
from flow.artefacts.networks import direct_network, program_inputs
from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.program.program import Program
from flow.sim.program_sim import ProgramSim
from tests.flow.compiler.networks import residual_network
from tests.flow.runner.conftest import Runner, arm_compiler, compiler
from tests.fuzz.make_corpus import programs
from vta_config import VTAConfig

IMAGE = np.random.default_rng(3).normal(size=(1, 3, 8, 8)).astype(np.float32)


def random_inputs(program: Program, seed: int = 0) -> list[NDArray[np.int8]]:
    """Return inputs that fit the planes of a program's inputs."""
    rng = np.random.default_rng(seed)
    wide = program.config.inp_bits == 8
    low = [-128 if wide or port.planes > 2 else -8 for port in program.inputs]
    ports = zip(low, program.inputs, strict=True)
    return [rng.integers(least, -least, port.shape, np.int8) for least, port in ports]


def run_program(
    runner: Runner, driver: Path, program: Program, inputs: Sequence[NDArray[Any]], place: Path
) -> list[bytes]:
    """Run a program on integers; return what the runner writes."""
    file = place / "p.vta"
    program.save(file)
    words: list[object] = ["--driver", driver, file]
    for i, x in enumerate(inputs):
        x.tofile(place / f"in{i}")
        words += ["--input", place / f"in{i}"]
    outputs = [place / f"out{i}" for i in range(len(program.outputs))]
    for path in outputs:
        words += ["--output", path]
    done = runner(*words, env={"DRIVER_PROGRAM": str(file)})
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("1 run, ")
    return [path.read_bytes() for path in outputs]


def expected(program: Program, inputs: Sequence[NDArray[Any]]) -> list[bytes]:
    return [np.ascontiguousarray(x).tobytes() for x in ProgramSim(program).run(inputs).outputs]


def check_artefact(runner: Runner, driver: Path, folder: Path, place: Path) -> None:
    """Run a network on integers, on floats and on packed bytes."""
    artefact = load_artefact(folder)
    (program,), manifest = artefact.programs, artefact.manifest
    assert manifest is not None
    inputs = program_inputs(IMAGE, manifest)
    assert run_program(runner, driver, program, inputs, place) == expected(program, inputs)
    x, y = place / "x", place / "y"
    IMAGE.tofile(x)
    file, scales = folder / "vta_0.vta", folder / "scales.txt"
    ends = ("--driver", driver, file, "--input", x, "--output", y)
    done = runner(*ends, "--scales", scales, "--repeat", 2)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("2 runs, ")
    np.testing.assert_array_equal(np.fromfile(y, np.float32), direct_network(artefact)(IMAGE))
    (port,), (result,) = program.inputs, program.outputs
    port.pack(inputs[0], program.config).tofile(x)
    done = runner(*ends, "--packed")
    assert (done.returncode, done.stderr) == (0, "")
    unpacked = result.unpack(np.fromfile(y, np.uint8), program.config)
    assert [unpacked.tobytes()] == expected(program, inputs)


def test_network(runner: Runner, fake_driver: Path, one: Path, tmp_path: Path) -> None:
    check_artefact(runner, fake_driver, one, tmp_path)


def test_network_on_arm(
    arm_runner: Runner, arm_fake_driver: Path, one: Path, tmp_path: Path
) -> None:
    check_artefact(arm_runner, arm_fake_driver, one, tmp_path)


def all_programs() -> list[Program]:
    """Return programs of small networks for machines of many shapes, and of 4-bit lanes."""
    found = list(programs())[::4]
    for preset in ("w4", "w4a4", "block32", "ultra96"):
        config = VTAConfig.load(preset)
        graph = residual_network(np.random.default_rng(1), size=8)
        found.append(make_program(graph, lower(graph, config), config))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("processor", ["native", "arm"])
def test_programs_of_many_machines(
    processor: str,
    core_driver: Callable[[str], Path],
    request: pytest.FixtureRequest,
    tmp_path: Path,
) -> None:
    cxx = compiler() if processor == "native" else arm_compiler()
    runner = request.getfixturevalue("runner" if processor == "native" else "arm_runner")
    driver = core_driver(cxx)
    for program in all_programs():
        inputs = random_inputs(program)
        assert run_program(runner, driver, program, inputs, tmp_path) == expected(program, inputs)


def test_zero_points_and_scales_of_channels(
    runner: Runner, fake_driver: Path, one: Path, tmp_path: Path
) -> None:
    """Floats become integers, and back, by the equations of the manifest."""
    artefact = load_artefact(one)
    manifest = artefact.manifest
    assert manifest is not None
    (tensor,), (output,) = manifest.tensors, manifest.outputs
    assert output.tensor is not None
    numbers = np.linspace(0.1, 0.7, 5).astype(np.float32)
    scaled = replace(output.tensor, scale=tuple(map(float, numbers)), zero_point=1001)
    changed = replace(
        manifest,
        inputs=(
            replace(
                manifest.inputs[0],
                tensors=(
                    replace(
                        tensor,
                        multiplier=float(np.float32(11.3)),
                        zero_point=-7,
                        qmin=-100,
                        qmax=99,
                    ),
                ),
            ),
        ),
        outputs=(replace(output, tensor=scaled),),
        programs=(replace(manifest.programs[0], outputs=(scaled,)),),
    )
    from flow.artefacts.save import scales_text

    scales, x, y = tmp_path / "scales.txt", tmp_path / "x", tmp_path / "y"
    scales.write_text(scales_text(changed))
    for scale in (1, 100):
        (IMAGE * np.float32(scale)).tofile(x)
        done = runner(
            "--driver", fake_driver, one / "vta_0.vta", "--input", x, "--output", y,
            "--scales", scales,
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, "")
        want = direct_network(replace(artefact, manifest=changed))(IMAGE * np.float32(scale))
        np.testing.assert_array_equal(np.fromfile(y, np.float32), want)


def test_what_it_says(runner: Runner, one: Path) -> None:
    done = runner("--info", one / "vta_0.vta")
    (program,) = load_artefact(one).programs
    assert done.returncode == 0 and done.stdout.splitlines() == [
        "machine: batch 1, block 16, 8-bit inputs, 8-bit weights",
        f"memory: {program.arena_bytes} bytes, {len(program.insns)} instructions",
        f"input 0: int8[1, 3, 8, 8], {program.inputs[0].bytes_in(program.config)} bytes packed",
        "output 0: int32[1, 5, 1, 1], 64 bytes packed",
    ]
    done = runner("--help")
    assert done.returncode == 0 and done.stdout.startswith("usage: vta_run --driver LIBRARY")


def test_the_folder_has_the_runner() -> None:
    """A wheel has it, and nothing that was built in the tree."""
    folder = Path(__file__).parents[3] / "flow" / "runner"
    names = {path.name for path in folder.iterdir()} - {"vta_run"}
    assert names == {"Makefile", "vta_program.h", "vta_run.cc"}
