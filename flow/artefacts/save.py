"""Write the folder that can be deployed: programs, library, plan, scales, and last the manifest."""

from __future__ import annotations

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from tvm.support import cc

import flow
from flow.artefacts.conversions import Conversions, Dequantizing, read_conversions
from flow.artefacts.manifest import (
    LIBRARY_FILE,
    MANIFEST_FILE,
    MOST_MANIFEST_BYTES,
    PLAN_FILE,
    PROGRAM_SUFFIX,
    SCALES_FILE,
    InputTensor,
    Manifest,
    NetworkInput,
    NetworkOutput,
    OutputTensor,
    StoredFile,
    StoredLibrary,
    StoredProgram,
)
from flow.artefacts.versions import host_platform, versions
from flow.data.datasets import Preprocessing
from flow.frontend.inputs import ModelInput
from flow.outputs import Output
from flow.program.program import Program
from flow.system.files import write_atomic
from flow.system.quiet import quiet_stderr
from relay_passes.integers.plan import QuantPlan
from vta_config.errors import ArtifactError
from vta_config.files import read_bounded
from vta_config.hardware import VTAConfig

#: Sources of the program that runs an artefact on a board, in this package and in the folder.
RUNNER_FOLDER: Final = "runner"
RUNNER_FILES: Final = ("Makefile", "vta_program.h", "vta_run.cc")


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkFacts:
    """What is known of a network from its model.

    Parameters
    ----------
    name, sha256 : str
        Of the ONNX model.
    inputs : tuple of ModelInput
        In the order of the parameters of ``main``.
    outputs : tuple of Output
    preprocessing : Preprocessing, optional
        How pictures become the input; None for a network that takes none.
    variant : str
        What it is quantized by.
    """

    name: str
    sha256: str
    inputs: tuple[ModelInput, ...]
    outputs: tuple[Output, ...]
    preprocessing: Preprocessing | None
    variant: str


def save_artefact(
    folder: Path,
    network: NetworkFacts,
    *,
    machine: VTAConfig,
    programs: Sequence[Program],
    partitioned: Any,
    executable: Any,
    plan: QuantPlan | None,
) -> str:
    """Write the folder; files of an earlier one that are not written again are removed.

    The manifest is written last, and the old one removed first: a folder that is half written is
    none.

    Parameters
    ----------
    folder : Path
        Made if missing.
    network : NetworkFacts
    machine : VTAConfig
    programs : sequence of Program
        In the order in which they run.
    partitioned : tvm.IRModule
        What calls them.
    executable : tvm.relax.VMExecutable
        The host's code, with the programs in it.
    plan : QuantPlan, optional

    Returns
    -------
    str
        Why there is no library, "" where there is one.

    Raises
    ------
    ArtifactError
        When a file cannot be written.
    """
    _clear(folder)
    conversions = read_conversions(partitioned)
    stored = tuple(
        StoredProgram(
            symbol=p.symbol,
            stored=_write(folder, f"{_file_stem(p.symbol, i)}{PROGRAM_SUFFIX}", p.to_bytes()),
            outputs=_dequantized(p, conversions),
        )
        for i, p in enumerate(programs)
    )
    library, note = _library(folder, executable)
    manifest = Manifest(
        model=network.name,
        model_sha256=network.sha256,
        variant=network.variant,
        machine=machine,
        inputs=_inputs(network, programs, conversions, plan),
        outputs=_outputs(network, programs, conversions),
        preprocessing=network.preprocessing,
        programs=stored,
        library=library,
        plan=None if plan is None else _write(folder, PLAN_FILE, _json_bytes(plan.to_json())),
        scales=None,
        versions=versions(),
    )
    inputs = [[tensor.name for tensor in program.inputs] for program in programs]
    if programs and manifest.is_one_program(inputs, len(programs[0].outputs)):
        _copy_runner(folder)
        scales = _write(folder, SCALES_FILE, scales_text(manifest).encode())
        manifest = replace(manifest, scales=scales)
    write_atomic(folder / MANIFEST_FILE, manifest.to_bytes())
    return note


def scales_text(manifest: Manifest) -> str:
    """Return what the board runner needs to turn floats into integers and back.

    A line for each input and output of the program. Numbers are written so that reading them as
    float32 gives the same bits.
    """
    lines = [
        "# input POSITION MULTIPLIER ZERO_POINT QMIN QMAX, output POSITION ZERO_POINT SCALE...",
    ]
    for tensor in manifest.tensors:
        limits = f"{tensor.zero_point} {tensor.qmin} {tensor.qmax}"
        lines.append(f"input {tensor.position} {tensor.multiplier:.9g} {limits}")
    for output in manifest.programs[0].outputs:
        numbers = " ".join(f"{scale:.9g}" for scale in output.scale)
        lines.append(f"output {output.position} {output.zero_point} {numbers}")
    return "\n".join(lines) + "\n"


def _file_stem(symbol: str, position: int) -> str:
    """Return the name of a program's file; symbols are TVM's, of letters, digits and _."""
    return symbol if symbol.isidentifier() and symbol.isascii() else f"program_{position}"


def _json_bytes(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, indent=2) + "\n").encode()


def _write(folder: Path, name: str, data: bytes) -> StoredFile:
    write_atomic(folder / name, data)
    return StoredFile(file=name, sha256=hashlib.sha256(data).hexdigest())


def _copy_runner(folder: Path) -> None:
    """Copy the sources of the board runner, which is built where the artefact is deployed."""
    for name in RUNNER_FILES:
        data = (Path(flow.__file__).parent / RUNNER_FOLDER / name).read_bytes()
        write_atomic(folder / RUNNER_FOLDER / name, data)


def _clear(folder: Path) -> None:
    """Remove an earlier manifest of the folder, and the files that it names."""
    path = folder / MANIFEST_FILE
    try:
        old = Manifest.from_bytes(read_bounded(path, MOST_MANIFEST_BYTES), str(path))
    except (OSError, ArtifactError):
        files: list[str] = []
    else:
        files = [file.file for file in stored_files(old)]
    runner = [f"{RUNNER_FOLDER}/{name}" for name in RUNNER_FILES]
    for name in (MANIFEST_FILE, *files, *(runner if files else [])):
        with contextlib.suppress(OSError):  # what is still there is written over, or said then
            (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # where something else is in it
        (folder / RUNNER_FOLDER).rmdir()


def stored_files(manifest: Manifest) -> list[StoredFile]:
    """Return all files that a manifest names."""
    files = [program.stored for program in manifest.programs]
    files += [] if manifest.library is None else [manifest.library.stored]
    return files + [file for file in (manifest.plan, manifest.scales) if file is not None]


def _library(folder: Path, executable: Any) -> tuple[StoredLibrary | None, str]:
    """Export the host's code; return why there is none where it cannot be linked.

    TVM writes object files, of which a C++ compiler makes a shared library.
    """
    compiler = cc.get_cc()
    if compiler is None:
        return None, f"no {LIBRARY_FILE}: no C++ compiler was found that links it"
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / LIBRARY_FILE
        try:
            with quiet_stderr():
                executable.export_library(str(path))
            data = path.read_bytes()
        except (OSError, RuntimeError) as error:
            last = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            return None, f"no {LIBRARY_FILE}: {compiler} did not link it ({last})"
    return StoredLibrary(stored=_write(folder, LIBRARY_FILE, data), platform=host_platform()), ""


def _inputs(
    network: NetworkFacts,
    programs: Sequence[Program],
    conversions: Conversions,
    plan: QuantPlan | None,
) -> tuple[NetworkInput, ...]:
    by_symbol = {program.symbol: program for program in programs}
    planned = {} if plan is None else plan.tensors
    tensors: list[list[InputTensor]] = [[] for _ in network.inputs]
    for found in conversions.inputs:
        port = by_symbol[found.program].inputs[found.position]
        known = planned.get(found.source)
        tensors[found.parameter].append(
            InputTensor(
                program=found.program,
                position=found.position,
                name=port.name,
                shape=port.shape,
                scale=1 / found.multiplier if known is None else known.scale[0],
                multiplier=found.multiplier,
                zero_point=found.zero_point,
                qmin=found.qmin,
                qmax=found.qmax,
            )
        )
    return tuple(
        NetworkInput(given=given, tensors=tuple(own))
        for given, own in zip(network.inputs, tensors, strict=True)
    )


def _outputs(
    network: NetworkFacts, programs: Sequence[Program], conversions: Conversions
) -> tuple[NetworkOutput, ...]:
    by_symbol = {program.symbol: program for program in programs}
    outputs = []
    for output, found in zip(network.outputs, conversions.results, strict=True):
        tensor = None if found is None else _output_tensor(found, by_symbol[found.program])
        outputs.append(NetworkOutput(name=output.name, shape=output.shape, tensor=tensor))
    return tuple(outputs)


def _dequantized(program: Program, conversions: Conversions) -> tuple[OutputTensor, ...]:
    """Return the outputs of a program that the host makes floats of, in order."""
    found = (c for c in conversions.outputs if c.program == program.symbol)
    tensors = (_output_tensor(c, program) for c in sorted(found, key=lambda c: c.position))
    return tuple(tensor for tensor in tensors if tensor is not None)


def _output_tensor(found: Dequantizing, program: Program) -> OutputTensor | None:
    """Return an output with its scales; None where these are not those of channels."""
    port = program.outputs[found.position]
    if len(found.scale) not in (1, port.shape[1]):
        return None
    return OutputTensor(
        program=found.program,
        position=found.position,
        name=port.name,
        dtype=port.dtype,
        shape=port.shape,
        scale=found.scale,
        zero_point=found.zero_point,
    )
