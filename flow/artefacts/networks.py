"""Run an artefact: its programs on any engine, by the library where the host computes, too."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

import flow.sim.oracle  # noqa: F401  # registers the engine "oracle"
from flow.artefacts.load import Artefact
from flow.artefacts.manifest import InputTensor, Manifest, OutputTensor
from flow.outputs import as_row
from flow.program.program import Program
from flow.sim.core_library import core_function, vta_modules
from flow.system.limits import Limits
from relay_passes.host.rows import inputs_of

Network = Callable[[NDArray[np.float32]], NDArray[np.float32]]
#: What hears of each call of a program in the library: symbol, inputs, outputs.
Hear = Callable[[str, list[NDArray[Any]], list[NDArray[Any]]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineChoice:
    """What runs the programs.

    Parameters
    ----------
    name : {"fsim", "tsim", "oracle", "driver"}
    driver : Path, optional
        Shared library, for ``driver``.
    driver_timeout_s : float, optional
        What one call of the library may take; by default any time.
    """

    name: str = "fsim"
    driver: Path | None = None
    driver_timeout_s: float | None = None

    def set_on(self, module: Any, limits: Limits) -> None:
        """Let a runtime module of a program use this engine.

        Raises
        ------
        CapacityError
            When the program costs more than `limits` allow.
        ArtifactError, DriverError
            When the driver library cannot be used.
        """
        module["set_limits"](limits.max_steps, limits.max_bytes)
        module["set_driver_timeout"](self.driver_timeout_s or 0.0)
        module["set_engine"](self.name, "" if self.driver is None else str(self.driver.absolute()))


#: The functional simulator.
FSIM: Final = EngineChoice()


class ProgramRunner:
    """A program on an engine: integers in, integers out.

    Parameters
    ----------
    program : Program
    engine : EngineChoice
    limits : Limits
        What it may cost.

    Raises
    ------
    FlowError
        As `EngineChoice.set_on`, or when the program is not legal.
    """

    def __init__(self, program: Program, engine: EngineChoice, limits: Limits) -> None:
        """Check the program and start the engine."""
        self.program = program
        create = core_function("vta.create_module")
        self._module: Any = create(
            program.symbol, program.to_bytes(), limits.max_steps, limits.max_bytes
        )
        engine.set_on(self._module, limits)

    def __call__(self, inputs: Sequence[NDArray[np.int8]]) -> list[NDArray[Any]]:
        """Run on int8[N, C, H, W] inputs in call order; return the outputs in call order."""
        outputs = [np.zeros(port.shape, port.dtype) for port in self.program.outputs]
        ports = self.program.inputs
        arrays = [np.array(x.reshape(p.shape)) for x, p in zip(inputs, ports, strict=True)]
        self._module[self.program.symbol](*arrays, *outputs)
        return outputs


def quantized(image: NDArray[np.float32], tensor: InputTensor) -> NDArray[np.int8]:
    """Return clip(floor(x * multiplier + 0.5) + zero_point, qmin, qmax) as a program reads it.

    Every step is rounded to float32, as the host's code in the library does.
    """
    scaled = np.asarray(image, np.float32) * np.float32(tensor.multiplier)
    rounded = np.floor(scaled + np.float32(0.5)) + np.float32(tensor.zero_point)
    clipped: NDArray[np.float32] = np.clip(rounded, tensor.qmin, tensor.qmax)
    return clipped.astype(np.int8).reshape(tensor.shape)


def dequantized(numbers: NDArray[Any], tensor: OutputTensor) -> NDArray[np.float32]:
    """Return (q - zero_point) * scale, float32[N, C, H, W], as the host's code does."""
    real = np.asarray(numbers, np.float32) - np.float32(tensor.zero_point)
    scaled: NDArray[np.float32] = real * np.asarray(tensor.scale, np.float32).reshape(-1, 1, 1)
    return scaled


def program_inputs(image: NDArray[np.float32], manifest: Manifest) -> list[NDArray[np.int8]]:
    """Return what the one program of a network reads, in call order.

    Parameters
    ----------
    image : float32[1, C, H, W]
        Or a row of several inputs.
    manifest : Manifest
    """
    parts = inputs_of(image, [given.shape for given in manifest.network_inputs])
    found = [
        (tensor.position, quantized(part, tensor))
        for own, part in zip(manifest.inputs, parts, strict=True)
        for tensor in own.tensors
    ]
    return [numbers for _, numbers in sorted(found, key=lambda each: each[0])]


def open_network(artefact: Artefact, engine: EngineChoice = FSIM) -> Network:
    """Return a callable float32[1, C, H, W] → float32[values] for a folder.

    The library is loaded only where the host computes more than scales.

    Raises
    ------
    FlowError
        As `ProgramRunner` and `Artefact.library`.
    """
    if artefact.needs_library:
        return library_network(artefact, engine)
    return direct_network(artefact, engine)


def direct_network(artefact: Artefact, engine: EngineChoice = FSIM) -> Network:
    """Return the network as its one program, between quantizing and scaling."""
    manifest = artefact.manifest
    assert manifest is not None and not artefact.needs_library
    (program,) = artefact.programs
    runner = ProgramRunner(program, engine, artefact.limits)

    def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
        outputs = runner(program_inputs(image, manifest))
        results = []
        for output in manifest.outputs:
            assert output.tensor is not None
            results.append(dequantized(outputs[output.tensor.position], output.tensor))
        return as_row(results)

    return run


def library_network(
    artefact: Artefact, engine: EngineChoice = FSIM, hear: Hear | None = None
) -> Network:
    """Return the network as the library runs it; `hear` is told what each program computes."""
    from tvm import cpu, relax, runtime

    library = artefact.library()
    assert artefact.manifest is not None
    shapes = [given.shape for given in artefact.manifest.network_inputs]
    for module in vta_modules(library):
        engine.set_on(module, artefact.limits)
    machine = relax.VirtualMachine(library, cpu())
    if hear is not None:
        machine.set_instrument(_instrument(artefact, hear))

    def run(image: NDArray[np.float32]) -> NDArray[np.float32]:
        parts = map(np.ascontiguousarray, inputs_of(image, shapes))
        result = machine["main"](*map(runtime.tensor, parts))
        return as_row(t.numpy() for t in ([result] if hasattr(result, "numpy") else result))

    return run


def _instrument(artefact: Artefact, hear: Hear) -> Callable[..., None]:
    """Return what the virtual machine calls before and after each function."""
    by_symbol = {program.symbol: program for program in artefact.programs}

    def called(function: Any, symbol: str, before: bool, result: Any, *args: Any) -> None:
        program = by_symbol.get(symbol)
        if program is None or before:
            return
        arrays = [np.array(tensor.numpy()) for tensor in args]
        count = len(program.inputs)
        hear(symbol, arrays[:count], arrays[count:])

    return called
