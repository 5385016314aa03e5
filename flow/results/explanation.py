"""What bounds a network and its layers, and what would help: the facts, as JSON has them.

`flow.explain` finds them and shows them; docs/explain.md describes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from flow.system.json_values import json_value
from vta_config.hardware import VTAConfig

#: Raised when a field changes its meaning or goes away; new fields do not raise it.
SCHEMA_VERSION: Final = 1
EXPLAIN_FILE: Final = "explain.json"
#: Where the cycles of a layer go: each cycle of its part of the critical path is one of these.
PARTS: Final[Mapping[str, str]] = {
    "gemm": "GEMM steps: inputs × weights",
    "gemm_other": "GEMM steps: clear, bias, residual, pool",
    "alu": "ALU steps: shift, clip, maximum",
    "inp": "reading inputs",
    "wgt": "reading weights",
    "acc": "reading accumulators",
    "uop": "reading micro-ops",
    "memory": "waiting for the first bytes of a read",
    "out": "writing outputs",
    "fetch": "fetching instructions",
    "pipeline": "start and end of GEMM and ALU instructions",
    "between": "between instructions",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Reads:
    """What a layer reads of one kind of data.

    Parameters
    ----------
    bytes : int
        Read from DRAM.
    distinct_bytes : int
        The same, each byte of DRAM counted once.
    """

    bytes: int
    distinct_bytes: int

    @property
    def times(self) -> float:
        """How often a byte is read, on average."""
        return self.bytes / self.distinct_bytes if self.distinct_bytes else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedLayer:
    """Where the cycles of a layer on VTA go.

    Parameters
    ----------
    name, kind, program : str
        The layer, its operator and the program that it is part of.
    cycles : int
        From the end of the layer before to the end of this one.
    bound : str
        The resource with the most cycles on its part of the critical path: gemm, alu, load, store
        or fetch.
    parts : object
        These cycles by what the machine does in them, on the critical path; their sum is `cycles`.
    gemm_cycles : int
        Cycles of the GEMM steps that multiply inputs by weights.
    compute_cycles : int
        Cycles of all GEMM and ALU steps.
    bus_cycles : int
        Bus beats that it reads.
    reads : object
        What it reads, by kind: inp, wgt, acc, uop.
    """

    name: str
    kind: str
    program: str
    cycles: int
    bound: str
    parts: Mapping[str, int]
    gemm_cycles: int
    compute_cycles: int
    bus_cycles: int
    reads: Mapping[str, Reads]

    @property
    def best_cycles(self) -> int:
        """What no schedule that reads the same data is faster than."""
        return max(self.gemm_cycles, self.bus_cycles)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What another machine, or another option, would change.

    Parameters
    ----------
    name : str
        A few words: ``bus of 128 bits``.
    sets : object
        What is set otherwise: keys of the machine's file, or options of the command line.
    cycles : int or null
        What the network, or the layer that was asked for, takes then; null if that is not known.
    base_cycles : int or null
        What the same takes on this machine, compiled in the same way.
    layers, base_layers : object
        The same by layer.
    sram_bytes : int
        Bytes of scratchpads that this machine has more (less if negative).
    multipliers : int
        Multipliers that it has more.
    reason : str
        Why there is no number; "" if there is one.
    """

    name: str
    sets: Mapping[str, Any]
    cycles: int | None = None
    base_cycles: int | None = None
    layers: Mapping[str, int] = field(default_factory=dict)
    base_layers: Mapping[str, int] = field(default_factory=dict)
    sram_bytes: int = 0
    multipliers: int = 0
    reason: str = ""

    @property
    def share(self) -> float | None:
        """The change as a share of the cycles: -0.25 is a quarter less; None if not known."""
        if self.cycles is None or not self.base_cycles:
            return None
        return self.cycles / self.base_cycles - 1

    def over(self, base: Mapping[str, int], then: Mapping[str, int]) -> Change:
        """Return it with the cycles of the layers, on this machine and then, and their sums."""
        return replace(
            self,
            cycles=sum(then.values()),
            base_cycles=sum(base.values()),
            layers=then,
            base_layers=base,
        )

    def share_of(self, layer: str) -> float | None:
        """Return the change of one layer, in the same way."""
        if not self.base_layers.get(layer) or layer not in self.layers:
            return None
        return self.layers[layer] / self.base_layers[layer] - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class HostOperator:
    """An operator on the host.

    Parameters
    ----------
    name : str
        The tensor that it computes.
    label : str
        The ONNX node and its operator.
    reason : str
        Why it is there.
    advice : str
        What can be done about it.
    """

    name: str
    label: str
    reason: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A sentence for people.

    Parameters
    ----------
    about : str
        What it tells: ``bound by``, ``would help``.
    text : str
        The sentence.
    """

    about: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """What bounds a network, or one layer of it, and what would help.

    Parameters
    ----------
    schema_version : int
        Increases when a field changes its meaning or is removed.
    model : str
        The model.
    machine : object
        The machine, as ``--config`` reads it.
    variant : str
        How the network was quantized; "" if that is not known.
    cycles : int
        All programs for one image, without operators on the host.
    layer : str or null
        The layer that was asked for; null: the network. What changes would save is told of it.
    alone : bool
        Whether changes were tried on this layer with its neighbours only, not on the network.
    layers : list
        The layers on VTA in execution order, or the one that was asked for.
    host : list
        The operators on the host, or the one that was asked for.
    changes : list
        What other machines and options would save, the most first; then what cannot be had.
    answers : list
        The same in sentences: what bounds it, what would help.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    model: str
    machine: VTAConfig
    variant: str
    cycles: int
    layer: str | None = None
    alone: bool = False
    layers: tuple[ExplainedLayer, ...] = ()
    host: tuple[HostOperator, ...] = ()
    changes: tuple[Change, ...] = ()
    answers: tuple[Answer, ...] = ()

    @property
    def shown_cycles(self) -> int:
        """The cycles of what was asked for: the layer, or the network."""
        return sum(layer.cycles for layer in self.layers)

    @property
    def parts(self) -> dict[str, int]:
        """Where these cycles go."""
        return {key: sum(layer.parts.get(key, 0) for layer in self.layers) for key in PARTS}

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values, keys in a fixed order."""
        values: dict[str, Any] = json_value(self, without=("machine",))
        return values | {"machine": self.machine.to_json()}
