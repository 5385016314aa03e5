"""DRAM planning: one arena a program; activations, which share space, then constants.

Addresses are bytes from the arena's start, aligned so that they are whole elements of every memory.
Two activations overlap only if the layers that use them do not: reuse across layers is made safe by
token insertion, which sees the same addresses.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flow.compiler.views import NO_VIEWS, Views
from flow.program.layouts import NO_BORDER, DramTensor, alignment_bytes, blocks, plane_bytes
from vta_config.errors import CapacityError
from vta_config.lanes import pack_lanes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from flow.compiler.normal_form import NormalLayer
    from flow.program.layouts import Border
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


class _Life(NamedTuple):
    """The layers, by number, from which on a tensor lies in DRAM, and to which it does."""

    first: int
    last: int

    def joined(self, other: _Life) -> _Life:
        """Return the life of what holds both."""
        return _Life(min(self.first, other.first), max(self.last, other.last))

    def meets(self, other: _Life) -> bool:
        """Whether both lie there at a time."""
        return self.first <= other.last and other.first <= self.last


def plan_activations(
    subgraph: Subgraph,
    layers: Sequence[NormalLayer],
    config: VTAConfig,
    dram_shapes: dict[str, tuple[int, ...]],
    planes: Mapping[str, int],
    borders: Mapping[str, Border] = MappingProxyType({}),
    views: Views = NO_VIEWS,
) -> tuple[dict[str, DramTensor], int]:
    """Place every activation; return them by name, and the bytes they take together.

    Inputs live from the start, outputs to the end. First fit in the order of definition. A tensor
    with a border lies behind all others, at a place that it shares only with tensors of its shape
    and border: so the border stays, however often the program runs. Inputs lie anywhere, since the
    host writes their borders.

    Parameters
    ----------
    subgraph : Subgraph
    layers : sequence of NormalLayer
    config : VTAConfig
    dram_shapes : dict[str, tuple[int, int, int, int]]
        NCHW of each tensor as it lies in DRAM, without its border.
    planes : Mapping[str, int]
        Of each tensor.
    borders : Mapping[str, Border]
        Of those that have one.
    views : Views
        Tensors that lie within others.

    Raises
    ------
    CapacityError
        When the activations do not fit 32-bit addresses.
    """
    lives = _lives(subgraph, layers)
    places = {name: views.place(name) for name in lives}
    for name, (whole, _) in places.items():
        lives[whole] = lives[whole].joined(lives[name])
    tensors = {
        name: DramTensor(
            name=name,
            shape=dram_shapes[name],
            address=0,
            planes=planes[name],
            plane_bytes=plane_bytes(borders.get(name, NO_BORDER).around(dram_shapes[name]), config),
            border=borders.get(name, NO_BORDER),
        )
        for name in lives
        if places[name].of == name
    }
    given = {spec.name for spec in subgraph.inputs}
    kept = [t for t in tensors.values() if not t.border.empty and t.name not in given]
    others = [t for t in tensors.values() if t not in kept]
    addresses, total = _first_fit(others, lives, alignment_bytes(config))
    more, total = _kept_places(kept, lives, alignment_bytes(config), total)
    if total >= 1 << 31:
        raise CapacityError(
            subgraph.symbol,
            "its activations must fit 2 GiB",
            got=f"{total} bytes",
            hint="use a smaller input",
        )
    addresses |= more
    placed = {name: replace(t, address=addresses[name]) for name, t in tensors.items()}
    return {
        name: _within(placed[whole], name, dram_shapes[name], block, config)
        if whole != name
        else placed[name]
        for name, (whole, block) in places.items()
    }, total


def _within(
    whole: DramTensor, name: str, shape: tuple[int, ...], block: int, config: VTAConfig
) -> DramTensor:
    """Return a tensor that lies within another one, from one of its blocks on."""
    _, _, height, width = whole.border.around(whole.shape)
    address = whole.address + block * height * width * config.inp_elem_bytes
    return replace(whole, name=name, shape=shape, address=address)


def _lives(subgraph: Subgraph, layers: Sequence[NormalLayer]) -> dict[str, _Life]:
    """Return when each tensor lies in DRAM, in the order of definition."""
    first = {spec.name: -1 for spec in subgraph.inputs}
    last = {spec.name: -1 for spec in subgraph.inputs}
    for index, normal in enumerate(layers):
        output = normal.last.output
        first[output] = last[output] = index
        for name in normal.layer.inputs:
            last[name] = index
        if normal.diagonal:
            first[normal.diagonal] = last[normal.diagonal] = index
    for spec in subgraph.outputs:
        last[spec.name] = len(layers)
    return {name: _Life(start, last[name]) for name, start in first.items()}


def _first_fit(
    tensors: Sequence[DramTensor], lives: Mapping[str, _Life], align: int
) -> tuple[dict[str, int], int]:
    """Return the first address of each tensor where no other lies meanwhile, and their end."""
    placed: list[tuple[int, int, str]] = []
    addresses, total = {}, 0
    for tensor in tensors:
        size, address = _size(tensor, align), 0
        for low, high, other in sorted(placed):
            if lives[other].meets(lives[tensor.name]):
                if address + size <= low:
                    break
                address = max(address, high)
        placed.append((address, address + size, tensor.name))
        addresses[tensor.name] = address
        total = max(total, address + size)
    return addresses, total


def _kept_places(
    tensors: Sequence[DramTensor], lives: Mapping[str, _Life], align: int, start: int
) -> tuple[dict[str, int], int]:
    """Return a place for each tensor from `start` on, and the end of the last one.

    Tensors share it that are the same but for their names and do not lie there at a time.
    """
    addresses: dict[str, int] = {}
    at = start
    tenants: list[list[DramTensor]] = []
    for tensor in tensors:
        alike = replace(tensor, name="")
        for place in tenants:
            apart = not any(lives[t.name].meets(lives[tensor.name]) for t in place)
            if replace(place[0], name="") == alike and apart:
                addresses[tensor.name] = addresses[place[0].name]
                place.append(tensor)
                break
        else:
            tenants.append([tensor])
            addresses[tensor.name] = at
            at += _size(tensor, align)
    return addresses, at


def _size(tensor: DramTensor, align: int) -> int:
    return blocks(tensor.planes * tensor.plane_bytes, align) * align
