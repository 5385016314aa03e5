"""Views: tensors that lie in DRAM as whole blocks of channels of another one.

In NCHWnc a block of channels is one stretch of DRAM. So what a concatenation puts side by side may
be stored there by the layers that make it, and a slice of whole blocks lies there already.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from flow.program.layouts import blocks
from vta_config.errors import CapacityError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from flow.program.layouts import Border
    from relay_passes.operators.movement import Movement, Part
    from relay_passes.partition.layers import Subgraph
    from vta_config.hardware import VTAConfig


class View(NamedTuple):
    """A tensor that lies within another one, from one of its blocks of channels on."""

    of: str
    block: int


class Views(NamedTuple):
    """All views of a subgraph, by tensor, and the blocks that layers need not write, by layer."""

    views: dict[str, View]
    written: dict[str, frozenset[int]]

    def place(self, name: str) -> View:
        """Return the tensor that takes space, and the block of it that a tensor begins with."""
        block = 0
        while name in self.views:
            view = self.views[name]
            name, block = view.of, block + view.block
        return View(name, block)

    def bordered(self, borders: Mapping[str, Border]) -> dict[str, Border]:
        """Return borders by tensor, of tensors within each other the one that holds them all.

        Raises
        ------
        CapacityError
            When they are of different numbers.
        """
        found: dict[str, Border] = {}
        for name, border in borders.items():
            whole = self.place(name).of
            known = found.get(whole, border)
            if known.value != border.value:
                raise CapacityError(
                    name,
                    f"must be padded with {known.value}, as the tensor that it lies in",
                    got=border.value,
                    hint="give both one zero point",
                )
            found[whole] = known.joined(border)
        within = {name: self.place(name).of for name in self.views}
        return found | {name: found[whole] for name, whole in within.items() if whole in found}


#: None.
NO_VIEWS = Views({}, {})


def views_of(subgraph: Subgraph, planes: Mapping[str, int], config: VTAConfig) -> Views:
    """Return the views of a subgraph: each tensor lies within one other at most.

    Inputs and outputs of the subgraph take space of their own.

    Parameters
    ----------
    subgraph : Subgraph
    planes : Mapping[str, int]
        Of each tensor; those of several lie apart.
    config : VTAConfig
    """
    given = {spec.name for spec in subgraph.inputs}
    wanted = {spec.name for spec in subgraph.outputs}
    views: dict[str, View] = {}
    written: dict[str, set[int]] = {}
    for layer in subgraph.layers:
        movement = layer.movement
        if movement is None or layer.post_ops or blocks(movement.shape[0], config.batch) > 1:
            continue
        if any(planes[name] != 1 for name in (*layer.inputs, layer.output)):
            continue
        for source, to, start, count in _stretches(movement, config.block):
            name = layer.inputs[source]
            whole = movement.shapes[source][1] == count
            if name in given:
                continue
            if whole and name not in wanted and name not in views and layer.kind == "concat":
                views[name] = View(layer.output, to // config.block)
            elif count == movement.shape[1] and layer.output not in wanted:
                views[layer.output] = View(name, start // config.block)
            else:
                continue
            own = blocks(count, config.block)
            first = to // config.block
            written.setdefault(layer.name, set()).update(range(first, first + own))
    return Views(views, {name: frozenset(found) for name, found in written.items()})


class _Stretch(NamedTuple):
    """So many channels, from `to` on, are those of a source from `start` on."""

    source: int
    to: int
    start: int
    channels: int


def _stretches(movement: Movement, block: int) -> Iterator[_Stretch]:
    """Yield the channels of each part that holds whole blocks of a source."""
    channels = movement.shape[1]
    for part in movement.parts:
        places = np.flatnonzero(part.channels >= 0)
        if movement.step != (1, 1) or not _is_whole(movement, part) or not len(places):
            continue
        to, start, count = int(places[0]), int(part.channels[places[0]]), len(places)
        taken = part.channels[places]
        if (places != to + np.arange(count)).any() or (taken != start + np.arange(count)).any():
            continue
        aligned = to % block == 0 == start % block
        ends = to + count == channels or count % block == 0
        source = movement.shapes[part.source][1]
        if aligned and ends and (count % block == 0 or start + count == source):
            yield _Stretch(part.source, to, start, count)


def _is_whole(movement: Movement, part: Part) -> bool:
    """Whether a part has all pixels of its source, in place."""
    sizes = len(part.rows), len(part.columns)
    return part.keeps_pixels and sizes == movement.shapes[part.source][2:] == movement.shape[2:]
