"""The original compiler's streams give the original simulator's bytes and counters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from flow.sim import FSim
from scripts.compare_streams import read_dump
from vta_config.hardware import VTAConfig
from vta_config.isa import TOKEN_FIELDS, Insn, Opcode, decode, encode

# inp, wgt, acc, uop, out bytes; GEMM and ALU operations (known for C2 from the original simulator).
COUNTERS = {"C2": (487424, 258048, 1792, 480, 200704, 451584, 50176)}
KERNELS = ("", "plain", "avx2", "avx512bw", "avx512vnni", "amx", "neon", "neon_dot", "amx_model")


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", ["C2", "C5", "C11"])
def test_golden_stream(shared_data: Path, name: str, kernels: str) -> None:
    insns, before, after = read_dump(
        shared_data / "golden" / "vta_streams" / f"run_00000_{name}.vtadump"
    )
    segments = [(address, len(data)) for address, data in before]
    try:
        sim = FSim(VTAConfig.load("default"), insns, arena=segments, strict=False, kernels=kernels)
    except Exception as error:
        if "kernels" in str(error):
            pytest.skip(f"this processor has no {kernels}")
        raise
    for seed in (None, 1, 2):
        for address, data in before:
            sim.write(address, data)
        sim.run(seed=seed)
        for address, data in after:
            np.testing.assert_array_equal(
                sim.read(address, len(data)), np.frombuffer(data, np.uint8), strict=True
            )
    if name in COUNTERS:
        c = sim.counters()
        keys = ("inp", "wgt", "acc", "uop", "out")
        assert (
            *(c[f"{key}_bytes"] for key in keys),
            c["gemm_ops"],
            c["alu_ops"],
        ) == COUNTERS[name]
        assert c["insns"] == len(insns) // 16


@pytest.mark.parametrize("name", ["C2", "C5", "C11"])
def test_golden_stream_is_legal_without_its_garbage(shared_data: Path, name: str) -> None:
    """The checks accept what the original compiler made, once uncovered bits are 0."""
    config = VTAConfig.load("default")
    stream, before, _ = read_dump(
        shared_data / "golden" / "vta_streams" / f"run_00000_{name}.vtadump"
    )
    clean = []
    for at in range(0, len(stream), 16):
        insn = decode(stream[at : at + 16], config, strict=False)
        if insn.opcode == Opcode.FINISH:
            insn = Insn(insn.opcode, {k: v for k, v in insn.values.items() if k in TOKEN_FIELDS})
        clean.append(encode(insn, config))
    sim = FSim(config, b"".join(clean), arena=[(address, len(data)) for address, data in before])
    for address, data in before:
        sim.write(address, data)
    sim.verify()
