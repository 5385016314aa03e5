"""The parts of ``details`` of a report; all become JSON by `dataclasses.asdict`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphNode:
    """A layer on VTA, or an operator on the host.

    Parameters
    ----------
    name : str
    operator : str
        The kind of a layer, or a Relax operator; ``input`` for an input of the network.
    place : {"vta", "host"}
    program : str
        The program that has the layer; "" on the host.
    inputs : tuple of str
        Tensors read.
    output : str
        The tensor made.
    """

    name: str
    operator: str
    place: Literal["vta", "host"]
    program: str
    inputs: tuple[str, ...]
    output: str


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphTensor:
    """A tensor between two nodes.

    Parameters
    ----------
    name : str
    shape : tuple of int
    dtype : str
    bits : int
        Of its numbers: those of the quantization plan where it has them.
    scale : tuple of float
        One, or the smallest and the largest of several; empty where it is not quantized.
    zero_point : int
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    bits: int
    scale: tuple[float, ...] = ()
    zero_point: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkGraph:
    """The network as it runs.

    Parameters
    ----------
    nodes : tuple of GraphNode
        In execution order, inputs first.
    tensors : tuple of GraphTensor
    outputs : tuple of str
        Tensors that are the network's results.
    """

    nodes: tuple[GraphNode, ...]
    tensors: tuple[GraphTensor, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """An activation in DRAM.

    Parameters
    ----------
    name : str
    kind : {"input", "output", "activation"}
    address, size_bytes : int
        Address from the start of the program's memory.
    first, last : int
        The layers, from 0, that write it and that read it last; -1 for an input, the number of
        layers for an output.
    """

    name: str
    kind: Literal["input", "output", "activation"]
    address: int
    size_bytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Scratchpad:
    """How much of a scratchpad each layer touches.

    Parameters
    ----------
    name : str
    capacity_bytes : int
    layer_bytes : tuple of int
        In execution order.
    """

    name: str
    capacity_bytes: int
    layer_bytes: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramMemory:
    """The memory of one program.

    Parameters
    ----------
    symbol : str
    layers : tuple of str
        In execution order.
    total_bytes, activation_bytes, constant_bytes, insn_bytes : int
        Of DRAM: activations and constants together, each of them, and the instructions beside.
    regions : tuple of Region
    scratchpads : tuple of Scratchpad
    """

    symbol: str
    layers: tuple[str, ...]
    total_bytes: int
    activation_bytes: int
    constant_bytes: int
    insn_bytes: int
    regions: tuple[Region, ...]
    scratchpads: tuple[Scratchpad, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """How often values occur, and the integers that they become.

    Parameters
    ----------
    name : str
        An activation, or the layer of weights.
    low, high : float
        Ends of the first and the last bin: real numbers of activations, integers of weights.
    counts : tuple of int
        In equal bins.
    bits : int
    scale : tuple of float
        One, or the smallest and the largest of several.
    zero_point, qmin, qmax : int
        Real = scale · (integer - zero_point), from qmin to qmax.
    """

    name: str
    low: float
    high: float
    counts: tuple[int, ...]
    bits: int
    scale: tuple[float, ...]
    zero_point: int
    qmin: int
    qmax: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Histograms:
    """Histograms of all quantized activations on calibration images, and of all weights."""

    activations: tuple[Histogram, ...]
    weights: tuple[Histogram, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstImage:
    """An image on which integers are far from float32.

    Parameters
    ----------
    name : str
    label, float_class, integer_class : int, optional
        The true class, and the answers; None without labels, and where there are no classes.
    sqnr_db : float, optional
        Of this image's outputs, centred for a classifier; None where they are equal.
    png : str
        A small picture, base64; "" where the input is none.
    """

    name: str
    label: int | None
    float_class: int | None
    integer_class: int | None
    sqnr_db: float | None
    png: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstImages:
    """The images with the largest errors.

    Parameters
    ----------
    images : tuple of WorstImage
        Those with another answer than float32 first, then by SQNR.
    differing : int, optional
        Images of all with another answer; None where there are no classes.
    evaluated : int
        Images of all.
    """

    images: tuple[WorstImage, ...]
    differing: int | None
    evaluated: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Details:
    """What a report tells of the deployed variant beyond numbers.

    Parameters
    ----------
    graph, memory, histograms, worst_images
        None where they are not known.
    left_out : mapping of str to str
        By the name of a part, why it could not be collected.
    """

    graph: NetworkGraph | None = None
    memory: tuple[ProgramMemory, ...] | None = None
    histograms: Histograms | None = None
    worst_images: WorstImages | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)
