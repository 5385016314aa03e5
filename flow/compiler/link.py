"""Join what lowering gave with the names and shapes of its subgraph: a program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from flow.program.input_form import InputForm
from flow.program.program import LayerRecord, PortTensor, Program
from vta_config.hardware import VTAConfig
from vta_config.isa import Opcode

if TYPE_CHECKING:
    from collections.abc import Sequence

    from flow.compiler.schedule import Lowered
    from relay_passes.partition.layers import Subgraph


def make_program(subgraph: Subgraph, lowered: Lowered, config: VTAConfig) -> Program:
    """Join what lowering gave with the names and shapes of the subgraph."""

    def form(name: str) -> InputForm | None:
        tensor = lowered.tensors[name]
        if tensor.border.empty:
            return lowered.forms.get(name)
        return InputForm.bordered(tensor.shape, tensor.border)

    def port(name: str, shape: Sequence[int], dtype: Literal["int8", "int32"]) -> PortTensor:
        return PortTensor(
            name=name,
            dtype=dtype,
            shape=(*shape, 1, 1)[:4],
            address=lowered.tensors[name].address,
            form=form(name),
            planes=lowered.tensors[name].planes,
        )

    last_store = {
        insn.origin.layer: i
        for i, insn in enumerate(lowered.insns)
        if insn.opcode == Opcode.STORE and insn["x_size"]
    }
    return Program(
        symbol=subgraph.symbol,
        config=config,
        insns=tuple(lowered.insns),
        constants=lowered.constants,
        constants_at=lowered.constants_at,
        arena_bytes=lowered.arena_bytes,
        fills=lowered.fills,
        inputs=tuple(port(t.name, t.shape, t.dtype) for t in subgraph.inputs),
        outputs=tuple(port(t.name, t.shape, t.dtype) for t in subgraph.outputs),
        layers=tuple(
            LayerRecord(
                name=normal.layer.name,
                kind=normal.kind,
                output=port(normal.last.output, normal.last.out_shape, normal.last.out_dtype),
                last_store=last_store[normal.layer.name],
            )
            for normal in lowered.layers
            if normal.layer.name in last_store  # others only name what lies there
        ),
    )
