"""The fields of ``estimate.json``: what its JSON Schema is made from. See docs/estimate.md."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from flow.results.estimate import ProgramCost
from vta_config.hardware import VTAConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class InputTensor:
    """One input of the network."""

    name: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimatedModel:
    """The model, and its inputs as the machine sees them."""

    name: str
    sha256: str
    input_shape: tuple[int, ...]
    inputs: tuple[InputTensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratchpad:
    """The most bytes of a scratchpad that a layer touches, and those that there are."""

    peak_bytes: int
    capacity_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOperators:
    """Operators on the host, and why they are there."""

    reason: str
    operators: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimatedLayer:
    """What one layer costs."""

    layer: str
    kind: str
    program: str
    cycles: int
    share_of_cycles: float
    gemm_steps: int
    gemm_utilization: float
    bound: str
    roofline_cycles: int
    inp_bytes: int
    wgt_bytes: int
    acc_bytes: int
    uop_bytes: int
    out_bytes: int
    insns: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EstimateFields:
    """What ``vta-flow estimate`` found.

    Parameters
    ----------
    schema_version : int
        Increases when a field changes its meaning or is removed.
    model : object
        The model.
    machine : object
        The machine, as ``--config`` reads it.
    variant : str
        How the network was quantized.
    calibrated_on : str
        What it was calibrated on.
    cycles : int
        Latency of one image, without operators on the host.
    ms, frames_per_s : float or null
        The same in milliseconds, and the images per second; null if nothing runs on VTA.
    partial : bool
        Whether operators on the host are not included.
    gemm_utilization : float
        Share of the cycles that are GEMM steps on inputs and weights.
    macs, vta_macs : int
        Multiply-accumulate operations for one image: all, and those on VTA.
    vta_mac_share : float or null
        The share of MACs on VTA; null without MACs.
    dram_traffic_bytes : int
        Bytes moved between DRAM and scratchpads for one image.
    dram_arena_bytes : int
        DRAM that all programs need.
    constant_bytes : int
        Weights, biases and micro-ops.
    scratchpads : object
        By the scratchpad's name.
    programs : list
        The VTA programs.
    round_trips, round_trip_bytes : int
        How often the host works between two programs, and the bytes copied for it.
    crossing_bytes : int
        Bytes copied between host and VTA in all.
    fallbacks : list
        Operators on the host, by reason.
    before, behind : list
        Preprocessing and post-processing on the host.
    layers : list
        In execution order.
    seconds : float
        What the estimate took.
    """

    schema_version: Literal[1]
    model: EstimatedModel
    machine: VTAConfig
    variant: str
    calibrated_on: str
    cycles: int
    ms: float | None
    frames_per_s: float | None
    partial: bool
    gemm_utilization: float
    macs: int
    vta_macs: int
    vta_mac_share: float | None
    dram_traffic_bytes: int
    dram_arena_bytes: int
    constant_bytes: int
    scratchpads: Mapping[str, Scratchpad]
    programs: tuple[ProgramCost, ...]
    round_trips: int
    round_trip_bytes: int
    crossing_bytes: int
    fallbacks: tuple[HostOperators, ...]
    before: tuple[str, ...]
    behind: tuple[str, ...]
    layers: tuple[EstimatedLayer, ...]
    seconds: float
