"""The machines of a sweep: axes as people write them, what is left out, what is drawn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from flow.sweep.space import (
    MOST_MACHINES,
    Drawn,
    Space,
    draw,
    machine_quantity,
    read_axis,
    read_space,
)
from flow.sweep.where import parse
from vta_config import VTAConfig
from vta_config.errors import ConfigError, LimitError

DEFAULT = VTAConfig.load("default")
K = 1024


@pytest.mark.parametrize(
    ("text", "name", "values"),
    [
        ("block=16,32", "block", (16, 32)),
        ("block=8..64", "block", (8, 16, 32, 64)),
        ("inp-buffer=16KiB..64KiB", "inp-buffer", (16 * K, 32 * K, 64 * K)),
        ("inp_buffer= 16KiB , 16KiB,32KiB", "inp-buffer", (16 * K, 32 * K)),
        ("bus=64..256,32", "bus", (64, 128, 256, 32)),
        ("clock=100MHz..200MHz:50MHz", "clock", (100_000_000, 150_000_000, 200_000_000)),
        ("clock=0.1GHz..0.4GHz", "clock", (100_000_000, 200_000_000, 400_000_000)),
        ("profile=chisel,hls", "profile", ("chisel", "hls")),
        ("weight-bits=4,8", "weight-bits", (4, 8)),
        ("weight-bits=4..8", "weight-bits", (4, 8)),
    ],
)
def test_axes(text: str, name: str, values: tuple[object, ...]) -> None:
    assert read_axis(text) == (name, values)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("block", "--axis: must be NAME=VALUES, got 'block'; write it as in block=16,32"),
        ("blocks=16", "--axis: must name an axis of a machine, got blocks; known: block, batch"),
        ("block=", "--axis block: must have values, got an empty one"),
        ("block=16,,32", "--axis block: must have values, got an empty one"),
        ("block=24", "axis block: must be a power of two, got 24"),
        ("block=16KiB", "--axis block: must be a number, got '16KiB'"),
        ("inp-buffer=32KiX", "--axis inp-buffer: must be a number, with one of B, KiB"),
        ("block=64..16", "--axis block: must have ranges from a small to a large number"),
        ("block=16..64:16", "--axis block: must have ranges without a step, which double"),
        ("clock=1MHz..2MHz:0Hz", "--axis clock: must have a positive step, got '0Hz'"),
        ("clock=1Hz..1e9Hz:1Hz", "--axis clock: must have at most 1000 values"),
        ("profile=chisel..hls", "--axis profile: must be names with commas between"),
        ("bus=48", "axis bus: must be among 32, 64, 128, 256, 512, got 48"),
        ("clock=" + ",".join(f"{n}MHz" for n in range(1, 1100)), "must have at most 1000 values"),
    ],
)
def test_what_is_no_axis(text: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        read_axis(text)


def space(*axes: str) -> Space:
    return Space(machines={"default": DEFAULT}, axes=dict(map(read_axis, axes)))


def drawn(of: Space, *where: str, **how: object) -> Drawn:
    return draw(of, [parse(w) for w in where], lambda machine: 1.0, **how)  # type: ignore[arg-type]


def test_all_machines_in_order() -> None:
    two = Space(
        machines={"default": DEFAULT, "ultra96": VTAConfig.load("ultra96")},
        axes=dict([read_axis("block=16,32"), read_axis("bus=64,128,256")]),
    )
    assert len(two) == 12
    found = [two.at(k) for k in range(12)]
    assert [m.number for m in found] == list(range(1, 13))
    chosen = [(m.config, m.choices["block"], m.choices["bus"]) for m in found]
    assert chosen == [
        (config, block, bus)
        for config in ("default", "ultra96")
        for block in (16, 32)
        for bus in (64, 128, 256)
    ]
    for machine in found:
        assert machine.machine is not None
        assert (machine.machine.block, machine.machine.bus_bits) == (
            machine.choices["block"],
            machine.choices["bus"],
        )
    assert [m.machine.clock_hz for m in found if m.machine] == [100e6] * 6 + [333e6] * 6


def test_what_cannot_be_built_says_why() -> None:
    found = drawn(space("block=16,32", "inp-buffer=32KiB..64KiB"))
    reasons = [(m.number, m.machine is None) for m in found.machines]
    assert reasons == [(1, False), (2, True), (3, False), (4, False)]
    assert "must fit 128 bits" in found.machines[1].reason
    assert (found.total, found.left_out, found.sampled) == (4, 0, False)


def test_constraints_leave_out() -> None:
    found = drawn(space("block=16,32,64", "bus=64,128"), "block <= 32", "bandwidth > 1e9")
    assert [m.number for m in found.machines] == [2, 4]
    assert found.left_out == 4
    with pytest.raises(ConfigError, match="--where: must leave a machine, got none of 2; relax"):
        drawn(space("block=16,32"), "block > 100")


def test_a_sample_is_drawn_by_its_seed() -> None:
    of = space("block=8..64", "bus=32..512", "burst=2..256", "uop-buffer=8KiB..32KiB")
    assert len(of) == 480
    one, again, other = (drawn(of, most=20, seed=s) for s in (0, 0, 1))
    assert one == again != other
    assert one.sampled and one.seed == 0
    built = [m for m in one.machines if m.machine is not None]
    assert len(built) == 20
    assert [m.number for m in one.machines] == sorted(m.number for m in one.machines)
    shuffled = drawn(of, shuffled=True, seed=3)
    numbers = [m.number for m in shuffled.machines]
    assert numbers != sorted(numbers) == list(range(1, 481))
    assert not drawn(of, most=1000).sampled  # that is all of them


def test_a_huge_space() -> None:
    of = space("block=8..64", "clock=1MHz..1000MHz:1MHz", "bus=32..512", "burst=2..256")
    with pytest.raises(LimitError, match=f"--axis: must span at most {MOST_MACHINES:,} machines"):
        drawn(of)
    assert len(drawn(of, most=5).machines) >= 5


def test_quantities_of_a_machine() -> None:
    values = {n: machine_quantity(n, DEFAULT, lambda m: 2.5) for n in ("block", "multipliers")}
    assert values == {"block": 16, "multipliers": 256}
    assert machine_quantity("bandwidth", DEFAULT, None) == 8e8
    assert machine_quantity("area", DEFAULT, lambda m: 2.5) == 2.5
    assert machine_quantity("latency", DEFAULT, None) is None


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "space.json"
    path.write_text(
        json.dumps(
            {
                "config": "default",
                "axes": {"block": [16, 32], "inp-buffer": "32KiB..64KiB", "bus": 64},
                "where": ["sram <= 1MiB"],
            }
        )
    )
    found = read_space(path)
    assert found.config == ("default",)
    assert found.axes == ("block=16,32", "inp-buffer=32KiB..64KiB", "bus=64")
    assert found.where == ("sram <= 1MiB",)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("{", "must be JSON, got"),
        ("[]", "must be an object with config, axes, where, got list"),
        ('{"axis": {}}', "must be an object with config, axes, where, got axis"),
        ('{"axes": []}', "must have axes by name, got list"),
        ('{"axes": {"block": []}}', r"must have numbers or strings for block, got \[\]"),
        ('{"axes": {"block": [true]}}', "must have numbers or strings for block"),
        ('{"where": [1]}', r"must have strings in where, got \[1\]; write it as in"),
        (None, "must be readable, got No such file"),
    ],
)
def test_what_is_no_file(tmp_path: Path, text: str | None, sentence: str) -> None:
    path = tmp_path / "space.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=f"space.json: {sentence}"):
        read_space(path)
