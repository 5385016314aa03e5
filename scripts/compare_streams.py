#!/usr/bin/env python3
"""Compare the original compiler's instruction streams with ours for the same layers.

A folder holds, for each layer, ``run_*_NAME.vtadump``, a run of the original functional simulator,
and ``NAME_io.npz``: int8 ``data`` [1, C, H, W] and ``weight`` [O, C, 3, 3], int32 ``bias`` and the
packed int8 output ``out_packed`` [N, C, H, W, batch, block]. The layers are 3 × 3 convolutions with
a pixel of padding, then >> 8, + bias, min 127, max 0. Both programs run on the functional
simulator, where their bytes and counters are compared, and are timed in every profile of the cycle
model. Prints two Markdown tables; exits with 1 when bytes differ.
"""

from __future__ import annotations

import argparse
import struct
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.sim.fsim import FSim
from flow.sim.program_sim import ProgramSim
from flow.sim.tsim import time_insns
from relay_passes.partition.layers import Layer, PostOp, Subgraph, TensorSpec
from vta_config import FlowError, VTAConfig
from vta_config.errors import ArtifactError
from vta_config.timing import PROFILES

if TYPE_CHECKING:
    from numpy.typing import NDArray

#: Byte address and content of pieces of memory.
Segments = list[tuple[int, bytes]]
COUNTERS: Final = (
    "insns",
    "gemm_ops",
    "alu_ops",
    "inp_bytes",
    "wgt_bytes",
    "acc_bytes",
    "uop_bytes",
    "out_bytes",
)
_WRITTEN: Final = 2
#: Headings of the counters that do not count bytes.
HEADINGS: Final = {"insns": "instructions", "gemm_ops": "GEMM steps", "alu_ops": "ALU steps"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One compiler's program of a layer.

    Parameters
    ----------
    exact : bool
        It gives the bytes that the original simulator gave.
    counters : dict of str to int
        By the names of `COUNTERS`.
    cycles : dict of str to int
        By timing profile.
    """

    exact: bool
    counters: dict[str, int]
    cycles: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A layer, compiled by both."""

    name: str
    original: Side
    ours: Side


def read_dump(path: Path) -> tuple[bytes, Segments, Segments]:
    """Read a dump of a run.

    Little endian: ``VTADUMP1``; six u32: version, instructions, address of the stream, segments,
    two unused; the instructions; a u64 address, u64 bytes, u32 flags (2: written), u32 unused of
    each segment; the segments before the run; those written, after it.

    Returns
    -------
    insns : bytes
        16 bytes per instruction; bits that no field covers hold anything.
    before, after : list of (int, bytes)

    Raises
    ------
    ArtifactError
        When the file is no such dump, or not whole.
    """
    data = path.read_bytes()
    if data[:8] != b"VTADUMP1":
        raise ArtifactError(str(path), "must begin with VTADUMP1", got=repr(data[:8]))
    try:
        _, insn_count, _, segment_count, _, _ = struct.unpack_from("<6I", data, 8)
        at = 32 + 16 * insn_count
        heads = [struct.unpack_from("<QQII", data, at + 24 * i) for i in range(segment_count)]
    except struct.error:
        raise ArtifactError(str(path), "must be whole", got=f"{len(data)} bytes") from None
    at += 24 * segment_count
    before, after = [], []
    for address, size, _, _ in heads:
        before.append((address, data[at : at + size]))
        at += size
    for address, size, flags, _ in heads:
        if flags & _WRITTEN:
            after.append((address, data[at : at + size]))
            at += size
    if at != len(data):
        raise ArtifactError(str(path), "must be whole", got=f"{len(data)} of {at} bytes")
    return data[32 : 32 + 16 * insn_count], before, after


def same_layer(data: dict[str, NDArray[Any]]) -> Subgraph:
    """Return the layer of a dump: 3 × 3, then >> 8, + bias, min 127, max 0."""
    weight, shape = data["weight"], data["data"].shape
    layer = Layer(
        name="conv",
        kind="conv2d",
        inputs=("x",),
        output="y",
        in_shape=shape,
        out_shape=(1, weight.shape[0], *shape[2:]),
        weight=weight,
        kernel=(3, 3),
        padding=(1, 1, 1, 1),
        post_ops=(
            PostOp(op="shr", value=8),
            PostOp(op="add", value=data["bias"].ravel()),
            PostOp(op="min", value=127),
            PostOp(op="max", value=0),
        ),
    )
    return Subgraph(
        symbol="vta_0",
        inputs=(TensorSpec(name="x", shape=shape, dtype="int8"),),
        outputs=(TensorSpec(name="y", shape=layer.out_shape, dtype="int8"),),
        layers=(layer,),
    )


def _cycles(insns: bytes, config: VTAConfig) -> dict[str, int]:
    return {profile: time_insns(config, insns, profile)[0] for profile in PROFILES}


def _original(path: Path, config: VTAConfig) -> Side:
    insns, before, after = read_dump(path)
    segments = [(address, len(data)) for address, data in before]
    sim = FSim(config, insns, arena=segments, strict=False)
    for address, data in before:
        sim.write(address, data)
    sim.run()
    exact = all(sim.read(address, len(data)).tobytes() == data for address, data in after)
    return Side(exact=exact, counters=sim.counters(), cycles=_cycles(insns, config))


def _ours(data: dict[str, NDArray[Any]], config: VTAConfig) -> Side:
    graph = same_layer(data)
    program = make_program(graph, lower(graph, config), config)
    sim = ProgramSim(program)
    (output,) = sim.run([data["data"]]).outputs
    expected = data["out_packed"].transpose(0, 1, 5, 2, 3, 4).reshape(output.shape)
    return Side(
        exact=bool(np.array_equal(output, expected)),
        counters=sim.sim.counters(),
        cycles=_cycles(program.insn_bytes, config),
    )


def compare(folder: Path, config: VTAConfig) -> list[Comparison]:
    """Compare every layer of a folder.

    Raises
    ------
    ArtifactError
        When there is none, or a file cannot be used.
    """
    dumps = sorted(folder.glob("run_*_*.vtadump"))
    if not dumps:
        raise ArtifactError(str(folder), "must hold run_*_NAME.vtadump files")
    found = []
    for path in dumps:
        name = path.stem.split("_", 2)[2]
        tensors = folder / f"{name}_io.npz"
        try:
            data = dict(np.load(tensors))
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise ArtifactError(str(tensors), "must be the tensors of a layer", got=error) from None
        found.append(
            Comparison(name=name, original=_original(path, config), ours=_ours(data, config))
        )
    # By how much there is to load: C2 before C11.
    return sorted(found, key=lambda c: c.original.counters["wgt_bytes"])


def tables(found: list[Comparison]) -> list[str]:
    """Return the lines of the two tables: cycles, counters."""
    lines = [
        "| layer | timing profile | original (cycles) | ours (cycles) | ours / original |",
        "|---|---|---:|---:|---:|",
    ]
    for c in found:
        for profile, theirs in c.original.cycles.items():
            ours = c.ours.cycles[profile]
            lines.append(f"| {c.name} | {profile} | {theirs:,} | {ours:,} | {ours / theirs:.3f} |")
    heads = [HEADINGS.get(key, f"{key.removesuffix('_bytes')} (bytes)") for key in COUNTERS]
    lines += ["", f"| layer | compiler | {' | '.join(heads)} |", "|---|---" + "|---:" * 8 + "|"]
    for c in found:
        for compiler, side in (("original", c.original), ("ours", c.ours)):
            cells = " | ".join(f"{side.counters[key]:,}" for key in COUNTERS)
            lines.append(f"| {c.name} | {compiler} | {cells} |")
    return lines


def main(argv: list[str] | None = None) -> int:
    """Parse the options, compare and print; return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path, help="dumps and tensors of the layers")
    options = parser.parse_args(argv)
    try:
        found = compare(options.folder, VTAConfig.load("default"))
    except FlowError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    print("\n".join(tables(found)))
    wrong = [
        f"{c.name}, {compiler}"
        for c in found
        for compiler, side in (("original", c.original), ("ours", c.ours))
        if not side.exact
    ]
    if wrong:
        sys.stderr.write(f"bytes differ from the original simulator's: {'; '.join(wrong)}\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
