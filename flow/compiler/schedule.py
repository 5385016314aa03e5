"""What lowering is told beside the layers, and what it gives."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from flow.compiler.cost import Tiling
from flow.compiler.normal_form import NormalLayer
from flow.compiler.shapes import Objective
from vta_config.isa import Insn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flow.program.input_form import InputForm
    from flow.program.layouts import DramTensor, Fill


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """What `search.search` finds; the cost model decides the rest.

    Parameters
    ----------
    objective : {"balanced", "latency"}
        What the cost model chooses the forms of inputs by, and tilings with a pool inside.
    tilings : Mapping[str, Tiling]
        By layer.
    forms : Mapping[str, InputForm] or None
        By input; inputs not named here lie as activations do. None where nothing was searched.
    """

    objective: Objective = "balanced"
    tilings: Mapping[str, Tiling] = field(default_factory=dict)
    forms: Mapping[str, InputForm] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Lowered:
    """What lowering a subgraph gives.

    Parameters
    ----------
    insns : list[Insn]
        With tokens, ended by FINISH.
    constants : bytes
        Weights, micro-ops and the like; they lie at `constants_at`.
    constants_at, arena_bytes : int
        Bytes from the arena's start; activations come before the constants.
    tensors : dict[str, DramTensor]
    layers : tuple[NormalLayer, ...]
        What was lowered, in order; its tensors are those in DRAM.
    forms : dict[str, InputForm]
        How inputs lie in DRAM that do not lie as activations do.
    fills : tuple[Fill, ...]
        What lies in DRAM before the program first runs, beside constants.
    """

    insns: list[Insn]
    constants: bytes
    constants_at: int
    arena_bytes: int
    tensors: dict[str, DramTensor]
    layers: tuple[NormalLayer, ...]
    forms: dict[str, InputForm]
    fills: tuple[Fill, ...]
