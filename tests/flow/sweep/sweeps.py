"""Sweeps without a model, for tests of what becomes of measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from flow.results.evaluate import Metrics
from flow.results.sweep_document import SpaceFields, SweepFields, SweepRow, SweptModel
from flow.sweep.costs import usual_constants
from flow.sweep.measure import Measured
from flow.sweep.networks import accuracy_of
from flow.sweep.rows import Found, compared_rows, effect_fields, row_of
from flow.sweep.space import Space, read_axis
from flow.sweep.where import Condition
from flow.sweep.work import Work
from flow.system.json_values import json_value
from vta_config import VTAConfig

WORK = Work(
    cycles=1_000_000, insns=5000, gemm_steps=800_000, useful_steps=700_000, reset_steps=20_000,
    alu_steps=60_000, alu_reads=80_000, inp_bytes=2_000_000, wgt_bytes=3_000_000, acc_bytes=0,
    uop_bytes=40_000, out_bytes=1_000_000, bound="gemm", bound_share=0.75,
)  # fmt: skip
AXES = ("block=16,32", "inp-buffer=32KiB..64KiB", "bus=64,128")
ALL = ("latency", "area", "energy", "accuracy")


def measured(machine: VTAConfig) -> Measured:
    """Return numbers that depend on block and bus as those of a network might."""
    cycles = 1_000_000 * 16 // machine.block + 300_000 * 64 // machine.bus_bits
    work = replace(WORK, cycles=cycles, gemm_steps=800_000 * 256 // machine.block**2)
    return Measured(work=work, macs=100, vta_macs=90, host_operators=1, programs=1)


def metrics(top1: float = 0.9) -> Metrics:
    return Metrics(
        name="x", images=10, top1=top1, top5=1.0, agreement=0.95, sqnr_db=30.0, centred_sqnr_db=25.0
    )


def rows(
    name: str = "net", holds: Sequence[Condition] = (), *, accuracy: bool = True
) -> list[SweepRow]:
    """Return the rows of one model, of which one has no measurement."""
    space = Space(machines={"default": VTAConfig.load("default")}, axes=dict(map(read_axis, AXES)))
    found = []
    for index in range(len(space)):
        machine = space.at(index)
        built = machine.machine
        found.append(
            row_of(
                Found(
                    machine=machine,
                    model=name,
                    variant="profiled_fused",
                    measured=None if built is None or index == 7 else measured(built),
                    accuracy=accuracy_of(metrics()) if accuracy else None,
                ),
                usual_constants(),
                holds,
            )
        )
    return found


def sweep(*names: str, accuracy: bool = True, holds: Sequence[Condition] = ()) -> SweepFields:
    """Return a whole document."""
    compared = ALL if accuracy else ALL[:3]
    all_rows, effects = [], []
    axes = dict(map(read_axis, AXES))
    for name in names or ("net",):
        own = compared_rows(rows(name, holds, accuracy=accuracy), compared)
        all_rows += own
        effects += effect_fields(name, own, compared, axes)
    return SweepFields(
        schema_version=1,
        models=tuple(
            SweptModel(
                name=name,
                sha256="0" * 64,
                input_shape=(1, 3, 8, 8),
                calibrated_on="2 random tensors",
                float32=None,
            )
            for name in names or ("net",)
        ),
        axes={"config": ("default",), **axes},
        where=tuple(c.text for c in holds),
        space=SpaceFields(machines=8, left_out=0, sampled=False, seed=0),
        constants=json_value(usual_constants()),
        compared=compared,
        rows=tuple(all_rows),
        effects=tuple(effects),
        remarks=("7 of 8 rows measured",),
        seconds=1.5,
    )
