"""The fields of ``machines.json``: what its JSON Schema is made from. See docs/sweep.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from flow.system.json_values import json_value
from vta_config.hardware import VTAConfig

#: A value of an axis.
AxisValue = int | float | str
#: What became of a machine: measured; failed; measured, but outside a constraint; not measured
#: before the time was over.
RowState = Literal["measured", "failed", "outside", "waiting"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyFields:
    """How near a network is to float32.

    Parameters
    ----------
    quantity : str
        What the front compares: top-1, agreement, centred SQNR or SQNR.
    value : float or null
        That quantity, a share from 0 to 1 or dB; null where it is infinite.
    images : int
        Images measured.
    top1, top5, agreement : float or null
        Shares from 0 to 1; null without labels, and for a network that is no classifier.
    sqnr_db, centred_sqnr_db : float or null
        Null where they are infinite.
    """

    quantity: str
    value: float | None
    images: int
    top1: float | None
    top5: float | None
    agreement: float | None
    sqnr_db: float | None
    centred_sqnr_db: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SweptModel:
    """A model.

    Parameters
    ----------
    name, sha256 : str
    input_shape : list of int
    calibrated_on : str
        What it was calibrated on.
    float32 : object or null
        The float model on the same images; null where no accuracy is measured.
    """

    name: str
    sha256: str
    input_shape: tuple[int, ...]
    calibrated_on: str
    float32: AccuracyFields | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SpaceFields:
    """The machines that there are.

    Parameters
    ----------
    machines : int
        Of the whole space.
    left_out : int
        By constraints that need no measurement, of those that were looked at.
    sampled : bool
        Whether some were not looked at.
    seed : int
        Of the draw.
    """

    machines: int
    left_out: int
    sampled: bool
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AreaFields:
    """Area by the model, in mm²: scratchpads, GEMM unit, ALU, and all."""

    sram_mm2: float
    gemm_mm2: float
    alu_mm2: float
    mm2: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyFields:
    """Energy of one image by the model, in mJ: its parts, and all."""

    dram_mj: float
    sram_mj: float
    gemm_mj: float
    alu_mj: float
    static_mj: float
    mj: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A quantity of a machine and of another one."""

    quantity: str
    own: float
    other: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A choice of a machine and of another one."""

    axis: str
    own: AxisValue
    other: AxisValue


@dataclass(frozen=True, slots=True, kw_only=True)
class Dominating:
    """A machine that is nowhere worse, and somewhere better.

    Parameters
    ----------
    machine_id : int
    variant : str
    better : list
        Quantities in which it is better.
    choices : list
        What it has chosen otherwise.
    """

    machine_id: int
    variant: str
    better: tuple[Compared, ...]
    choices: tuple[Changed, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepRow:
    """One network on one machine.

    Parameters
    ----------
    machine_id : int
        The machine's place in the space, from 1.
    model, variant : str
    config : str
        The machine that was varied.
    choices : object
        By axis.
    machine : object or null
        The machine, as ``--config`` reads it; null where it cannot be built.
    state : str
        ``measured``; ``failed``: see `reason`; ``outside``: measured, but breaks a constraint;
        ``waiting``: not measured before the time was over.
    reason : str
        Why it is not measured, or which constraint it breaks; "" otherwise.
    cycles : int or null
        Latency of one image, without operators on the host; null here and below where the row is
        not measured.
    ms, frames_per_s : float or null
        At the machine's clock.
    dram_bytes : int or null
        Moved for one image, instructions included.
    gemm_utilization : float or null
        Share of the cycles that are GEMM steps on inputs and weights.
    bound : str or null
        The resource with the most cycles on the critical path.
    bound_share : float or null
        Its share of the cycles.
    macs, vta_macs : int or null
        Multiply-accumulates for one image: all, and those on VTA.
    host_operators, programs : int or null
        Operators that fell back to the host; VTA programs.
    sram_bytes : int or null
        All scratchpads.
    area, energy : object or null
        By the model.
    accuracy : object or null
        Null where no images are given.
    on_front : bool or null
        Whether no other row of the model dominates it; null for rows that are not compared.
    dominated_by : object or null
        One that does.
    """

    machine_id: int
    model: str
    variant: str
    config: str
    choices: Mapping[str, AxisValue]
    machine: VTAConfig | None
    state: RowState
    reason: str = ""
    cycles: int | None = None
    ms: float | None = None
    frames_per_s: float | None = None
    dram_bytes: int | None = None
    gemm_utilization: float | None = None
    bound: str | None = None
    bound_share: float | None = None
    macs: int | None = None
    vta_macs: int | None = None
    host_operators: int | None = None
    programs: int | None = None
    sram_bytes: int | None = None
    area: AreaFields | None = None
    energy: EnergyFields | None = None
    accuracy: AccuracyFields | None = None
    on_front: bool | None = None
    dominated_by: Dominating | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EffectFields:
    """What another value of one axis changes, all other choices being the same.

    Parameters
    ----------
    model, axis : str
    low, high : number or string
        The values that are compared.
    pairs : int
        Of rows that differ in nothing else.
    factors : object
        By quantity: the median of high / low; null where a number is not positive.
    differences : object
        By quantity: the median of high - low.
    high_dominates, low_dominates : int
        Pairs in which one is nowhere worse and somewhere better.
    """

    model: str
    axis: str
    low: AxisValue
    high: AxisValue
    pairs: int
    factors: Mapping[str, float | None]
    differences: Mapping[str, float]
    high_dominates: int
    low_dominates: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepFields:
    """What ``vta-flow sweep`` found.

    Parameters
    ----------
    schema_version : int
        Increases when a field changes its meaning or is removed.
    models : list
        The models.
    axes : object
        The values of each axis.
    where : list of str
        Constraints.
    space : object
        The machines that there are.
    constants : object
        What the model of area and energy knows of the technology.
    compared : list of str
        What the front compares.
    rows : list
        By model, variant and machine.
    effects : list
        What each choice changes.
    remarks : list of str
        Sentences for people.
    seconds : float
        What the sweep took.
    """

    schema_version: Literal[1]
    models: tuple[SweptModel, ...]
    axes: Mapping[str, tuple[AxisValue, ...]]
    where: tuple[str, ...]
    space: SpaceFields
    constants: Mapping[str, Any]
    compared: tuple[str, ...]
    rows: tuple[SweepRow, ...]
    effects: tuple[EffectFields, ...]
    remarks: tuple[str, ...]
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, keys in a fixed order."""
        value: dict[str, Any] = json_value(self, without=("rows",))
        rows = [json_value(row, without=("machine",)) for row in self.rows]
        for own, row in zip(rows, self.rows, strict=True):
            own["machine"] = None if row.machine is None else row.machine.to_json()
        return value | {"rows": rows}
