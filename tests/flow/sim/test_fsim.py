"""The functional simulator from Python: memory, counters, costs, runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from builder import ARENA, INP, OUT, UOP, WGT, Builder, conv

from flow.sim.fsim import FSim
from flow.system.limits import Limits
from vta_config import VTAConfig
from vta_config.errors import CapacityError, ConfigError, HazardError
from vta_config.isa import AluOp, Memory


def loaded(b: Builder, **options: Any) -> FSim:
    """Return a program of `conv` with its micro-ops in memory."""
    sim = FSim(b.config, b.stream, arena=(0, ARENA), origins=b.origins, **options)
    sim.write(UOP, b.uop_bytes)
    return sim


def test_a_tile_by_hand() -> None:
    """out = clip((W x) >> 4) of one pixel: W[o, i] = o + 1 on the diagonal, x = 16 i - 100."""
    b = conv(tiles=1, pixels=1)
    sim = loaded(b)
    weight = np.diag(np.arange(1, 17)).astype(np.int8)
    x = (16 * np.arange(16) - 100).astype(np.int8)
    sim.write(WGT, weight)
    sim.write(INP, x)
    sim.run()
    expected = np.clip((np.arange(1, 17) * x.astype(int)) >> 4, -127, 127)
    assert sim.read(OUT, 16).view(np.int8).tolist() == expected.tolist()


def test_any_order_gives_the_same() -> None:
    b = conv(tiles=4, pixels=2)
    results = []
    for seed in (None, 0, 1, 2):
        sim = loaded(b)
        sim.write(WGT, np.arange(256, dtype=np.uint8))
        sim.write(INP, np.arange(128, dtype=np.uint8))
        sim.run(seed=seed)
        results.append(sim.read(OUT, 128).tobytes())
    assert len(set(results)) == 1 and any(results[0])


def test_counters_by_hand() -> None:
    """Two tiles of four pixels: without padding, reset steps do not count."""
    sim = loaded(conv(tiles=2, pixels=4))
    assert sim.counters() == {
        "inp_bytes": 2 * 4 * 16,
        "wgt_bytes": 256,
        "acc_bytes": 0,
        "uop_bytes": 2 * 4,
        "out_bytes": 2 * 4 * 16,
        "gemm_ops": 2 * 4,
        "alu_ops": 2 * 3 * 4,
        "insns": 1 + 8 + 7 + 2,
    }
    parts = [sim.counters(i, i + 1) for i in range(18)]
    assert {k: sum(p[k] for p in parts) for k in parts[0]} == sim.counters()
    assert sim.counters(3, 3)["insns"] == 0


def test_snapshots_are_the_memory_after_an_instruction() -> None:
    b = conv(tiles=2, pixels=1)
    stores = [i for i, insn in enumerate(b.insns) if insn.opcode.name == "STORE"]
    sim = loaded(b)
    sim.write(WGT, np.eye(16, dtype=np.int8))
    sim.write(INP, np.full(32, 64, np.int8))
    both = [(stores[0], OUT, 32), (stores[1], OUT, 32)]
    first, second = (tap.reshape(2, 16) for tap in sim.run(taps=both))
    assert first.tolist() == [[4] * 16, [0] * 16] and second.tolist() == [[4] * 16] * 2


def test_memory_has_ends() -> None:
    sim = FSim(VTAConfig.load("default"), _finish(), arena=[(4096, 64), (8192, 16)])
    sim.write(8192, bytes(range(16)))
    assert sim.read(8196, 4).tolist() == [4, 5, 6, 7]
    assert not sim.read(4096, 64).any()
    for address, size in ((4096, 65), (4095, 1), (8200, 9), (0, 1)):
        with pytest.raises(CapacityError):
            sim.read(address, size)
        with pytest.raises(CapacityError):
            sim.write(address, bytes(size))


def _finish() -> bytes:
    b = Builder()
    b.finish("")
    return b.stream


def test_kernels_are_named_and_chosen() -> None:
    sim = FSim(VTAConfig.load("default"), _finish(), arena=(0, 64), kernels="plain")
    assert sim.kernels == "plain"
    with pytest.raises(ConfigError, match="kernels"):
        FSim(VTAConfig.load("default"), _finish(), arena=(0, 64), kernels="abacus")


def test_a_race_is_found_where_micro_ops_are_known() -> None:
    """A step of the ALU must not touch what the one just before it wrote."""
    b = Builder()
    b.uop(dst=0, src=0)
    b.load(Memory.UOP, UOP, 0, 1)
    b.gemm(0, 1, reset=1)
    b.alu(AluOp.ADD, 0, 1, use_imm=1, imm=1, iter_in=2)  # the same element twice
    b.finish("")
    sim = loaded(b)
    with pytest.raises(HazardError, match=r"step 2"):
        sim.verify()


def test_costs_are_known_before_a_run() -> None:
    b = conv(tiles=2, pixels=4)
    sim = loaded(b)
    cost = sim.cost
    assert set(cost) == {"steps", "bytes"} and min(cost.values()) > 0
    loaded(b, limits=Limits(max_steps=cost["steps"], max_bytes=cost["bytes"] * 2))
    with pytest.raises(CapacityError, match="steps"):
        loaded(b, limits=Limits(max_steps=cost["steps"] - 1))
