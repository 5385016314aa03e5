"""What is tried: one change at a time, and a sentence where there is no such machine."""

from __future__ import annotations

from dataclasses import replace

from flow.explain.candidates import candidates, multipliers, wider_bus
from vta_config import VTAConfig


def named(machine: VTAConfig) -> dict[str, object]:
    return {c.name: c for c in candidates(machine, "balanced")}


def test_the_stock_machine_has_no_room_for_larger_buffers(default_config: VTAConfig) -> None:
    found = {c.name: c for c in candidates(default_config, "balanced")}
    assert list(found) == [
        "bus of 128 bits",
        "inp buffer ×2",
        "inp ×2, wgt ÷2",
        "inp ×2, acc ÷2",
        "wgt buffer ×2",
        "wgt ×2, acc ÷2",
        "acc buffer ×2",
        "uop buffer ×2",
        "block of 32",
        "weights of 4 bits",
        "--objective latency",
    ]
    assert found["bus of 128 bits"].sets == {"BUS_BITS": 128}
    assert found["inp buffer ×2"].machine is None
    for name in ("inp", "wgt", "acc"):
        assert found[f"{name} buffer ×2"].reason == (
            "cannot be built: instructions and micro-ops have no bits left for its addresses"
        )
    assert found["uop buffer ×2"].reason == (
        "programs keep at most 2,048 micro-ops, which it holds already"
    )
    pair = found["inp ×2, wgt ÷2"]
    assert pair.sets == {"LOG_INP_BUFF_SIZE": 16, "LOG_WGT_BUFF_SIZE": 17}
    assert not pair.quantizes
    block = found["block of 32"]
    assert block.sets == {"LOG_BLOCK": 5} and block.quantizes and block.weight_bits is None
    # As many elements as before, in half the bytes: the preset w4.
    bits = found["weights of 4 bits"]
    assert bits.machine is not None and bits.machine.wgt_depth == default_config.wgt_depth
    assert replace(bits.machine, name="w4") == VTAConfig.load("w4")
    assert (bits.quantizes, bits.weight_bits) == (True, 4)
    assert found["--objective latency"].objective == "latency"


def test_a_machine_with_room() -> None:
    small = VTAConfig.load("small")
    found = {c.name: c for c in candidates(small, "latency")}
    assert not any("÷2" in name for name in found)
    assert found["uop buffer ×2"].sets == {"LOG_UOP_BUFF_SIZE": 12}
    assert found["acc buffer ×2"].sets == {"LOG_ACC_BUFF_SIZE": small.log_acc_buff_bytes + 1}
    assert found["--objective balanced"].objective == "balanced"
    assert "--objective latency" not in found


def test_the_widest_machine() -> None:
    wide = replace(VTAConfig.load("w4"), bus_bits=512)
    assert wider_bus(wide).reason == (
        "cannot be built: axis bus: must be among 32, 64, 128, 256, 512, got 1024"
    )
    assert "weights of 4 bits" not in named(wide)  # it has them


def test_a_buffer_that_loads_do_not_reach() -> None:
    """As many inp elements as sram_base has numbers for, in a machine with small other buffers."""
    small = replace(
        VTAConfig.load("small"), log_wgt_buff_bytes=6, log_acc_buff_bytes=6, log_block=2
    )
    most = replace(small, log_inp_buff_bytes=18)
    assert most.log_inp_depth == 16
    (reason,) = (c.reason for c in candidates(most, "balanced") if c.name == "inp buffer ×2")
    assert "must hold at most 65536 elements" in reason


def test_costs(default_config: VTAConfig) -> None:
    assert multipliers(default_config) == 256
    assert multipliers(VTAConfig.load("block32")) == 1024
