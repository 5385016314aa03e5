"""The fields of ``report.json``: what its JSON Schema is made from. See docs/report.md.

`Report.to_json` writes them. The tests check every report that they make against the schema, in
which no key may be missing or unknown.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from flow.options import Options
from flow.results.data_facts import DataFacts
from flow.results.details.types import Details
from flow.results.evaluate import OutputMetrics
from flow.results.explanation import Explanation
from flow.results.layer_facts import LayerFacts
from flow.results.report import Exactness, Skipped
from flow.results.run_facts import Tool
from flow.results.schema import OMITTED
from relay_passes.params import Granularity
from relay_passes.partition.host_work import Fallback
from relay_passes.scales.kept import Deviation
from vta_config.hardware import VTAConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The model.

    Parameters
    ----------
    name : str
        Its name or file name.
    sha256 : str
        SHA-256 of the ``.onnx`` bytes.
    """

    name: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerLatency:
    """The timing of one layer.

    Parameters
    ----------
    name : str
        The layer.
    cycles : int
        From the end of the layer before to the end of this one.
    gemm_utilization : float
        Share of these cycles in which inputs are multiplied by weights.
    bound : str
        The resource with the most cycles on the critical path.
    path : object
        Cycles on the critical path, by resource.
    bytes : int
        Bytes moved from and to DRAM.
    floor_cycles, full_floor_cycles : int
        The roofline, and the one with every step of COMPUTE.
    above_floor, above_full_floor : float or null
        The share by which the cycles exceed it; null if it is 0.
    """

    name: str
    cycles: int
    gemm_utilization: float
    bound: str
    path: Mapping[str, int]
    bytes: int
    floor_cycles: int
    full_floor_cycles: int
    above_floor: float | None
    above_full_floor: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyFields:
    """The latency of one image on the machine.

    Parameters
    ----------
    partial : bool
        Whether operators on the host are not included.
    engine : str
        What timed it.
    timing_profile : str
        The generation of the hardware.
    cycles : int
        From the launch until FINISH is done.
    ms : float
        The same in milliseconds.
    floor_cycles, full_floor_cycles : int
        The sums over the layers.
    above_floor, above_full_floor : float or null
        The share by which the cycles exceed them; null if they are 0.
    layers : list
        In execution order.
    """

    partial: bool
    engine: str
    timing_profile: str
    cycles: int
    ms: float
    floor_cycles: int
    full_floor_cycles: int
    above_floor: float | None
    above_full_floor: float | None
    layers: tuple[LayerLatency, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementFields:
    """Which part runs on VTA, and which on the host.

    Parameters
    ----------
    programs : int
        Number of VTA programs.
    crossing_bytes : int
        Bytes copied between host and VTA for one image.
    macs, vta_macs : int
        Multiply-accumulate operations for one image: all, and those on VTA.
    fallbacks : list
        Operators on the host.
    before, behind : list
        Preprocessing and post-processing, not among the others.
    vta_mac_share : float or null
        The share of MACs on VTA; null without MACs.
    """

    programs: int
    crossing_bytes: int
    macs: int
    vta_macs: int
    fallbacks: tuple[Fallback, ...]
    before: tuple[Fallback, ...]
    behind: tuple[Fallback, ...]
    vta_mac_share: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedForm:
    """One candidate of a variant, and its SQNR on calibration images."""

    form: str
    sqnr_db: float
    centred_sqnr_db: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerRounding:
    """How one layer was rounded, selected on held-out images.

    Parameters
    ----------
    layer : str
        The layer.
    rounding : str
        ``learned`` (GPTQ) or ``nearest``.
    damping : float or null
        null for nearest.
    correct_bias : bool
        Whether its bias was corrected.
    gain_db : float
        The error of nearest rounding relative to the selected one's, in dB.
    """

    layer: str
    rounding: Literal["learned", "nearest"]
    damping: float | None
    correct_bias: bool
    gain_db: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Steps:
    """Which candidate of a variant was selected, and how its layers were rounded."""

    form: str
    compared: tuple[ComparedForm, ...]
    layers: tuple[LayerRounding, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BitsOfLayer:
    """The bits of one layer of `mixed`.

    Parameters
    ----------
    name : str
        The layer.
    weight_bits, activation_bits : int
        What it got.
    fixed : bool
        Whether it had no choice.
    weights, macs : int
        How many.
    cycles : object
        What it takes, by bits such as ``W4A8``.
    omega : object
        The perturbation, by sensitivity and bits.
    """

    name: str
    weight_bits: int
    activation_bits: int
    fixed: bool
    weights: int
    macs: int
    cycles: Mapping[str, int]
    omega: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bits:
    """How `mixed` chose the bits of its layers.

    Parameters
    ----------
    sensitivity : str
        What the choice is based on.
    sensitivities_agree : float or null
        Rank correlation of both sensitivities.
    perturbation : float
        Σ Ω of the chosen bits.
    limits, costs : object
        By ``latency`` (cycles), ``size`` (bytes), ``bops``: the limits, and the sums.
    ranges : object
        The smallest possible sum, and the one at the widest bits.
    predicted_cycles, measured_cycles : int or null
        The sum of the layers' cycles, and the cycles of the program.
    rounds : int
        How often the integer program was solved.
    remarks : list
        Sentences.
    layers : list
        Every layer.
    """

    sensitivity: str
    sensitivities_agree: float | None
    perturbation: float
    limits: Mapping[str, float]
    ranges: Mapping[str, tuple[float, float]]
    costs: Mapping[str, float]
    predicted_cycles: int | None
    measured_cycles: int | None
    rounds: int
    remarks: tuple[str, ...]
    layers: tuple[BitsOfLayer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """What one variant measures; ``float32`` comes first.

    Parameters
    ----------
    name : str
        The variant.
    images : int
        Number of images evaluated.
    top1, top5 : float or null
        Share of images whose label has the largest logit, or one of the five largest.
    top1_change_margin : float or null
        Half the width of the 95 % confidence interval of `top1` minus that of float32.
    agreement : float or null
        Share of images with the same arg-max as float32.
    sqnr_db, centred_sqnr_db : float or null
        Of the results against float32, in dB; null if they are equal.
    outputs : list
        Each output of a network that is no classifier.
    latency : object or null
        Of its programs.
    placement : object or null
        What runs where.
    steps : object or null
        The selected candidate configuration.
    requantization_error : float or null
        The largest relative error of a requantization ratio.
    exact : object or null
        The comparison of engines.
    calibration : object or null
        The images that it was calibrated on.
    bits : object or null
        How its bits were chosen, for `mixed`.
    kept : object or null
        How far it is from the integers of the file, if it keeps them.
    layer_images : int
        Number of evaluation images on which layers were compared with float32.
    layers : list
        Its layers on VTA.
    """

    name: str
    images: int
    top1: float | None
    top5: float | None
    top1_change_margin: float | None
    agreement: float | None
    sqnr_db: float | None
    centred_sqnr_db: float | None
    outputs: tuple[OutputMetrics, ...]
    latency: LatencyFields | None
    placement: PlacementFields | None
    steps: Steps | None
    requantization_error: float | None
    exact: Exactness | None
    calibration: DataFacts | None
    bits: Bits | None
    kept: Deviation | None
    layer_images: int
    layers: tuple[LayerFacts, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CounterTotals:
    """Counters of one image; GEMM steps also by purpose."""

    insns: int
    gemm_ops: int
    gemm_conv_ops: int
    gemm_bias_ops: int
    gemm_residual_ops: int
    gemm_pool_ops: int
    alu_ops: int
    inp_bytes: int
    wgt_bytes: int
    acc_bytes: int
    uop_bytes: int
    out_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CountersOfLayer(CounterTotals):
    """Counters of one layer for one image."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What the simulator counted, in all and by layer."""

    total: CounterTotals
    layers: tuple[CountersOfLayer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedTensor:
    """How a tensor is quantized: real = scale · (integer - zero_point).

    Parameters
    ----------
    scale : list
        One, or one per block or channel.
    bits : int
        Width of the integers.
    signed : bool
        Whether negative values occur.
    granularity : str
        What one scale stands for.
    limit : int
        The largest integer, where the machine's operands hold less than 127.
    zero_point : int
        Left out if 0.
    """

    scale: tuple[float, ...]
    bits: int
    signed: bool
    granularity: Granularity
    limit: int = field(default=127, metadata=OMITTED)
    zero_point: int = field(default=0, metadata=OMITTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedLayer:
    """How an accumulator becomes int8; the last four only with an output."""

    name: str
    inputs: tuple[str, ...]
    operators: tuple[str, ...]
    output: str
    multiplier: tuple[int, ...] = field(default=(), metadata=OMITTED)
    shift: tuple[int, ...] = field(default=(), metadata=OMITTED)
    ratio: tuple[float, ...] = field(default=(), metadata=OMITTED)
    relative_error: float = field(default=0.0, metadata=OMITTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSum:
    """How two tensors are added."""

    first: str
    second: str
    multiplier: tuple[int, ...]
    first_shift: tuple[int, ...]
    second_shift: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStep:
    """One step on an accumulator."""

    op: str
    value: tuple[int, ...]
    tensor: str = field(default="", metadata=OMITTED)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedPart:
    """Steps that make one tensor."""

    suffix: str
    steps: tuple[PlannedStep, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The quantization plan: scales, and the integers that they became.

    Parameters
    ----------
    block : int
        Output channels that share a number.
    tensors, weights : object
        By tensor name.
    layers : list
        In the order of the graph.
    sums : object
        Residual adds, by the tensor of the result.
    host, floats : object
        Why an operator runs in float on the host; why the host quantizes a tensor.
    steps : object
        Tensors computed element by element.
    """

    block: int
    tensors: Mapping[str, PlannedTensor]
    weights: Mapping[str, PlannedTensor]
    layers: tuple[PlannedLayer, ...]
    sums: Mapping[str, PlannedSum]
    host: Mapping[str, str]
    floats: Mapping[str, str]
    steps: Mapping[str, tuple[PlannedPart, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportFields:
    """What ``vta-flow deploy`` and ``vta-flow evaluate`` found.

    Parameters
    ----------
    schema_version : int
        Increases when a field changes its meaning or is removed.
    tool : object
        The program and its libraries.
    date : str
        When the run began, in UTC (ISO 8601).
    command : list
        The command line.
    options : object or null
        Everything that was asked for.
    seeds : object
        Of everything drawn at random.
    objective : str
        What input layouts are chosen by.
    model : object
        The model.
    machine : object
        The machine, as ``--config`` reads it.
    engine : str
        What ran the programs.
    evaluation, calibration : object or null
        The images.
    variants : list
        One per variant, ``float32`` first.
    skipped : list
        Variants that were not measured.
    stopped : str or null
        Why no further variant was tried.
    deployed : str or null
        The variant that is reported in full.
    latency, placement, exact : object or null
        Of the deployed variant.
    counters : object
        Of the deployed variant.
    seconds : object
        Wall time by stage.
    plan : object or null
        The quantization plan of the deployed variant.
    details : object or null
        Further data for the HTML report.
    explanation : object or null
        What bounds the deployed variant, and what would help; null unless it was asked for.
    """

    schema_version: Literal[4]
    tool: Tool
    date: str
    command: tuple[str, ...]
    options: Options | None
    seeds: Mapping[str, int]
    objective: str
    model: Model
    machine: VTAConfig
    engine: str
    evaluation: DataFacts | None
    calibration: DataFacts | None
    variants: tuple[Variant, ...]
    skipped: tuple[Skipped, ...]
    stopped: str | None
    deployed: str | None
    latency: LatencyFields | None
    exact: Exactness | None
    counters: Counters
    seconds: Mapping[str, float]
    placement: PlacementFields | None
    plan: Plan | None
    details: Details | None
    explanation: Explanation | None = field(default=None, metadata=OMITTED)
