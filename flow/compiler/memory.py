"""DRAM planning: one arena a program; activations, which share space, then constants.

Addresses are bytes from the arena's start, aligned so that they are whole elements of every memory.
Two activations overlap only if the layers that use them do not: reuse across layers is made safe by
token insertion, which sees the same addresses.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from flow.program.layouts import DramTensor, alignment_bytes, plane_bytes
from vta_config.errors import CapacityError
from vta_config.lanes import pack_lanes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from flow.compiler.normal_form import NormalLayer
    from relay_passes.partition.layers import Subgraph
    from vta_config.hardware import VTAConfig


@dataclass(slots=True)
class Constants:
    """The constant bytes of a program; equal arrays are stored once."""

    alignment: int
    #: Address of the first constant, bytes from the arena's start.
    start: int
    #: Only addresses matter: zeros stand for weights, which take long to pack.
    timing_only: bool = False
    _parts: list[bytes] = field(default_factory=list)
    _known: dict[bytes, int] = field(default_factory=dict)
    size_bytes: int = 0

    def add(self, array: NDArray[np.uint8] | NDArray[np.uint32] | NDArray[np.int32]) -> int:
        """Store `array`; return its address in bytes."""
        data = array.tobytes()
        if data not in self._known:
            self._known[data] = self.start + self.size_bytes
            padded = data + bytes(-len(data) % self.alignment)
            self._parts.append(padded)
            self.size_bytes += len(padded)
        return self._known[data]

    def add_weights(self, part: NormalLayer, config: VTAConfig) -> int:
        """Store the weights of a reduction, packed now; return their address in bytes."""
        if not part.weight_elems:
            return 0
        if not self.timing_only:
            return self.add(pack_lanes(part.weights(config), config.wgt_bits))
        at = self.start + self.size_bytes
        size = part.weight_elems * config.wgt_elem_bytes
        self._parts.append(bytes(size + -size % self.alignment))
        self.size_bytes += len(self._parts[-1])
        return at

    def data(self) -> bytes:
        """Return all constants, back to back."""
        return b"".join(self._parts)


def plan_activations(
    subgraph: Subgraph,
    layers: Sequence[NormalLayer],
    config: VTAConfig,
    dram_shapes: dict[str, tuple[int, ...]],
    planes: Mapping[str, int],
) -> tuple[dict[str, DramTensor], int]:
    """Place every activation; return them by name, and the bytes they take together.

    Inputs live from the start, outputs to the end. First fit in the order of definition. `planes`
    are those of each tensor.

    Raises
    ------
    CapacityError
        When the activations do not fit 32-bit addresses.
    """
    first = {spec.name: -1 for spec in subgraph.inputs}
    last = {spec.name: -1 for spec in subgraph.inputs}
    for index, normal in enumerate(layers):
        output = normal.last.output
        first[output] = last[output] = index
        for name in normal.layer.inputs:
            last[name] = index
    for spec in subgraph.outputs:
        last[spec.name] = len(layers)

    align = alignment_bytes(config)
    placed: list[tuple[int, int, str]] = []
    tensors: dict[str, DramTensor] = {}
    total = 0
    for name, start in first.items():
        each = plane_bytes(dram_shapes[name], config)
        size, address = each * planes[name], 0
        size += -size % align
        for low, high, other in sorted(placed):
            if first[other] <= last[name] and start <= last[other]:
                if address + size <= low:
                    break
                address = max(address, high)
        placed.append((address, address + size, name))
        tensors[name] = DramTensor(
            name=name,
            shape=dram_shapes[name],
            address=address,
            planes=planes[name],
            plane_bytes=each,
        )
        total = max(total, address + size)
    if total >= 1 << 31:
        raise CapacityError(
            subgraph.symbol,
            "its activations must fit 2 GiB",
            got=f"{total} bytes",
            hint="use a smaller input",
        )
    return tensors, total
