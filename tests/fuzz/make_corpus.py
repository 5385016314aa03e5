"""Compile small networks for several machines to program files that the fuzzer starts from.

python -m tests.fuzz.make_corpus DIR
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.program.program import Program
from relay_passes.partition.layers import Subgraph, TensorSpec
from tests.flow.compiler.networks import conv, max_pool, residual_network, subgraph
from vta_config.hardware import VTAConfig


def networks() -> Iterator[Subgraph]:
    """Yield networks whose programs the fuzzer runs within its limits."""
    rng = np.random.default_rng(0)
    for channels, kernel, size in ((8, 1, 5), (16, 3, 5), (3, 3, 6), (24, 2, 7)):
        x = TensorSpec(name="x", shape=(1, channels, size, size), dtype="int8")
        first = conv(rng, "first", x, 20, (kernel, kernel))
        yield subgraph((first,), x)
        yield subgraph((first, conv(rng, "second", first, 8, (1, 1))), x)
        yield subgraph((first, max_pool("pool", first, 2, 2)), x)
    yield residual_network(rng, size=6)
    x = TensorSpec(name="x", shape=(1, 8, 5, 5), dtype="int8")
    window = {"padding": (1, 1, 1, 1), "pad_value": -128}
    first = conv(rng, "first", x, 20, (3, 3), **window)
    yield subgraph((first, conv(rng, "second", first, 8, (3, 3), **window)), x)


def programs() -> Iterator[Program]:
    """Yield their programs for machines of several blocks and batches."""
    small = VTAConfig.load("small")
    machines = [
        small,
        replace(small, log_block=3, log_wgt_buff_bytes=12, capabilities=frozenset({"mul"})),
        replace(small, log_batch=1, log_inp_buff_bytes=13, log_acc_buff_bytes=15),
    ]
    for graph in networks():
        for config in machines:
            yield make_program(graph, lower(graph, config), config)


def main(folder: Path) -> None:
    """Write every program to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, program in enumerate(programs()):
        program.save(folder / f"{number}.vta")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
