"""Compare the engines on the programs of an artefact, tensor by tensor, without the model.

The numpy oracle is the reference where the program is small enough for it, else the functional
simulator. What is compared with it: fsim in program order and in a random token-legal order, tsim,
and of a folder the library's programs and results. The inputs are those that the network makes of
its images, or what is given to a program alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flow.artefacts.load import Artefact
from flow.artefacts.networks import (
    FSIM,
    EngineChoice,
    ProgramRunner,
    direct_network,
    library_network,
    program_inputs,
)
from flow.program.program import Program
from flow.sim.oracle import check_cost, run_program
from flow.sim.program_sim import ProgramSim
from flow.sim.tsim import TSim
from flow.stages import Progress
from flow.system.limits import ORACLE, Limits
from flow.tally import Tally
from vta_config.errors import CapacityError
from vta_config.text import shown_name

#: How many more steps the limits of a file allow than the oracle may take.
_ORACLE_SHARE: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What was compared.

    Parameters
    ----------
    runs, tensors, mismatches : int
        Images, or sets of inputs of a program alone; tensors compared; those that differ.
    first : str
        The first that differs.
    engines : tuple of str
        What was compared, the reference first.
    """

    runs: int
    tensors: int
    mismatches: int
    first: str
    engines: tuple[str, ...]


@dataclass(slots=True)
class ProgramEngines:
    """A program on every engine that is compared.

    Parameters
    ----------
    program : Program
    limits : Limits
        What it may cost.
    engine : EngineChoice
        One more, where it is not fsim.

    Raises
    ------
    FlowError
        When the program is not legal, or costs more than `limits` allow.
    """

    program: Program
    limits: Limits
    engine: EngineChoice
    _fsim: ProgramSim = field(init=False)
    _tsim: TSim = field(init=False)
    _oracle: Limits | None = field(init=False)
    _other: ProgramRunner | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        """Check and time the program once."""
        self._fsim = ProgramSim(self.program, limits=self.limits)
        self._tsim = TSim(self.program, limits=self.limits)
        self._oracle = oracle_limits(self.program, self.limits)
        if self.engine.name == "driver":
            self._other = ProgramRunner(self.program, self.engine, self.limits)

    @property
    def names(self) -> tuple[str, ...]:
        """What is compared, the reference first."""
        oracle = () if self._oracle is None else ("oracle",)
        other = () if self._other is None else (self.engine.name,)
        return (*oracle, "fsim", "fsim in random order", "tsim", *other)

    def run(
        self, inputs: Sequence[NDArray[np.int8]], seed: int, tally: Tally, where: str
    ) -> list[NDArray[Any]]:
        """Compare one run; return the outputs of the reference."""
        reference: dict[str, NDArray[Any]] | None = None
        for engine, tensors in self._engines(inputs, seed):
            if reference is None:
                reference = tensors
                continue
            for name, got in tensors.items():
                tally.compare(f"{shown_name(name)} on {engine}, {where}", got, reference[name])
        assert reference is not None
        return [reference[f"output {port.name}"] for port in self.program.outputs]

    def _engines(
        self, inputs: Sequence[NDArray[np.int8]], seed: int
    ) -> Iterator[tuple[str, dict[str, NDArray[Any]]]]:
        """Yield what each engine stored, tensor by tensor."""
        program = self.program
        shaped = [x.reshape(p.shape) for x, p in zip(inputs, program.inputs, strict=True)]

        def named(layers: dict[str, NDArray[Any]], outputs: list[NDArray[Any]]) -> dict[str, Any]:
            ports = zip(program.outputs, outputs, strict=True)
            return layers | {f"output {port.name}": x for port, x in ports}

        if self._oracle is not None:
            result = run_program(program, shaped, limits=self._oracle)
            layers = {r.output.name: result.layers[r.name] for r in program.layers}
            yield "oracle", named(layers, result.outputs)
        runs = (
            ("fsim", self._fsim.run),
            ("fsim in random order", partial(self._fsim.run, seed=seed)),
            ("tsim", self._tsim.run),
        )
        for engine, run in runs:
            found = run(shaped)
            yield engine, named(found.layers, found.outputs)
        if self._other is not None:
            yield self.engine.name, named({}, self._other(shaped))


def oracle_limits(program: Program, limits: Limits) -> Limits | None:
    """Return what the oracle may take of a program, None where that is not enough."""
    share = -1 if limits.max_steps < 0 else max(ORACLE.max_steps, limits.max_steps // _ORACLE_SHARE)
    own = Limits(max_steps=share, max_bytes=limits.max_bytes)
    try:
        check_cost(program, own)
    except CapacityError:
        return None
    return own


def compare_programs(
    artefact: Artefact,
    runs: Iterable[Sequence[NDArray[np.int8]]],
    count: int,
    progress: Progress,
    engine: EngineChoice = FSIM,
) -> Comparison:
    """Compare the engines on a program alone.

    Parameters
    ----------
    artefact : Artefact
        Of one program.
    runs : iterable of sequences of int8[N, C, H, W]
        The program's inputs, run by run.
    count : int
        Number of runs.
    progress : callable
    engine : EngineChoice
        Compared, too, where it is ``driver``.
    """
    (program,) = artefact.programs
    engines, tally = ProgramEngines(program, artefact.limits, engine), Tally()
    for index, inputs in enumerate(runs):
        engines.run(inputs, index, tally, f"run {index}")
        progress(index + 1, count)
    return _comparison(tally, count, engines.names)


def compare_network(
    artefact: Artefact,
    images: Iterable[NDArray[np.float32]],
    count: int,
    progress: Progress,
    engine: EngineChoice = FSIM,
) -> Comparison:
    """Compare the engines on what the programs of a folder read for each image, and the library.

    Parameters
    ----------
    artefact : Artefact
        A folder.
    images : iterable of float32[1, C, H, W]
    count : int
        Number of images.
    progress : callable
    engine : EngineChoice
        Compared, too, where it is ``driver``.

    Raises
    ------
    ArtifactError
        When the library is needed, or there, and cannot be used.
    """
    manifest = artefact.manifest
    assert manifest is not None, "a program file alone has no images"
    engines = {p.symbol: ProgramEngines(p, artefact.limits, engine) for p in artefact.programs}
    tally, where, index = Tally(), "", 0

    def hear(symbol: str, inputs: list[NDArray[Any]], outputs: list[NDArray[Any]]) -> None:
        known = engines[symbol]
        expected = known.run(inputs, index, tally, where)
        for port, got, want in zip(known.program.outputs, outputs, expected, strict=True):
            tally.compare(f"{shown_name(port.name)} in the library, {where}", got, want)

    has_library = manifest.library is not None or artefact.needs_library
    library = library_network(artefact, FSIM, hear) if has_library else None
    direct = None if artefact.needs_library else direct_network(artefact, engine)
    for index, image in enumerate(images):
        where = f"image {index}"
        if library is not None:
            results = library(image)
            if direct is not None:
                tally.compare(f"results of the library, {where}", results, direct(image))
        else:
            (known,) = engines.values()
            known.run(program_inputs(image, manifest), index, tally, where)
        progress(index + 1, count)
    names = tuple(dict.fromkeys(name for known in engines.values() for name in known.names))
    return _comparison(tally, count, (*names, *(["library"] if has_library else [])))


def _comparison(tally: Tally, runs: int, engines: tuple[str, ...]) -> Comparison:
    return Comparison(
        runs=runs,
        tensors=tally.tensors,
        mismatches=tally.mismatches,
        first=tally.first,
        engines=engines,
    )
