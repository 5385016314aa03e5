"""Time the programs of an artefact, and write what happens when."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from flow.artefacts.load import Artefact
from flow.sim.trace import write_trace
from flow.sim.tsim import TSim
from vta_config.errors import ConfigError


def no_program(path: Path) -> ConfigError:
    """Return the error of an artefact without a program."""
    return ConfigError(
        str(path), "must have a program", got="none", hint="no layer of this network runs on VTA"
    )


def timed_programs(artefact: Artefact, profile: str | None = None) -> list[TSim]:
    """Time each program, by default for the machine's generation of hardware.

    Raises
    ------
    ConfigError
        When there is none.
    FlowError
        As `TSim`.
    """
    if not artefact.programs:
        raise no_program(artefact.path)
    return [TSim(p, profile=profile, limits=artefact.limits) for p in artefact.programs]


def write_traces(timed: Sequence[TSim], path: Path) -> list[Path]:
    """Write a trace to `path`, of several programs each to one with its symbol in the name.

    Raises
    ------
    ArtifactError
        When a file cannot be written.
    """
    paths = []
    for sim in timed:
        symbol = f".{sim.program.symbol}" if len(timed) > 1 else ""
        paths.append(path.with_name(f"{path.stem}{symbol}{path.suffix}" if symbol else path.name))
        write_trace(sim, paths[-1])
    return paths
