"""Find what a user calls a layer: a layer on VTA, an operator on the host, or a part of either."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, Final

from relay_passes.graph import read_graph, variables
from relay_passes.names import layer_names
from relay_passes.partition.host_work import CONVERSIONS
from vta_config.errors import ConfigError
from vta_config.text import shown_name

if TYPE_CHECKING:
    from flow.frontend.origins import OnnxNode
    from relay_passes.partition.host_work import Fallback
    from relay_passes.partition.read import FoundLayers

#: Names that an error suggests.
_SUGGESTED: Final = 3
_LISTED: Final = 8
#: What the importer calls the second and later ones of nodes or layers with one name.
_NUMBERED: Final = re.compile(r"(.+)#(\d+)", re.DOTALL)


def aliases(
    quantized: Any,
    found: FoundLayers,
    layers: Sequence[str],
    origins: Mapping[str, OnnxNode],
    imported: Any,
) -> dict[str, str]:
    """Return the layer on VTA that each name means: its own, its tensors', those of ONNX nodes.

    Parameters
    ----------
    quantized : tvm.IRModule
        Integers.
    found : FoundLayers
        Its layers, in execution order.
    layers : sequence of str
        Those that take cycles. What takes none belongs to the layer before it, which stores its
        numbers where it needs them, or computes them, too; a first one to the layer behind it.
    origins : mapping of str to OnnxNode
        By tensor.
    imported : tvm.IRModule
        The float module as the importer made it. A node that is in no layer belongs to that of what
        it reads, into which it was folded, as BatchNorm.
    """
    timed, owners = set(layers), layer_names(quantized)
    names: dict[str, str] = {}
    last = layers[0] if layers else ""
    own: dict[str, str] = {}

    def add(tensor: str) -> None:
        node = origins.get(tensor)
        for name in (tensor, *((node.name, node.output) if node is not None else ())):
            if name:
                names.setdefault(name, last)

    for chain in found.chains:
        last = chain.name if chain.name in timed else last
        own[chain.name] = last
        for tensor in (*(str(b.var.name) for b in chain.bindings), str(chain.output.name)):
            add(tensor)
            add(owners.get(tensor, tensor))
    for binding in read_graph(imported).bindings:
        tensor, read = str(binding.var.name), [str(v.name) for v in variables(binding.value)]
        last = names.get(tensor) or next((names[v] for v in read if v in names), "")
        if last:
            add(tensor)
    return names | own | {layer: layer for layer in layers}


def by_name(
    name: str, operators: Iterable[Fallback], *, conversions: bool = False
) -> Fallback | None:
    """Return the operator on the host that a name means: its tensor, ONNX node, or label.

    Parameters
    ----------
    name : str
    operators : iterable of Fallback
    conversions : bool
        Whether it is a conversion between integers and floats, called like what it converts, or an
        operator of the model.
    """
    known = [f for f in operators if (f.operator in CONVERSIONS) == conversions]
    found = ([f for f in known if getattr(f, key) == name] for key in ("name", "node", "label"))
    return next((operators[0] for operators in found if operators), None)


def namesakes(name: str, known: Iterable[str]) -> list[str]:
    """Return the names ``conv#2``, ``conv#3``, ... of others that the model calls `name`, too."""
    found = [match for text in known if (match := _NUMBERED.fullmatch(text)) and match[1] == name]
    return [match[0] for match in sorted(found, key=lambda match: (len(match[2]), match[2]))]


def several(name: str, means: Sequence[str], option: str = "--explain") -> ConfigError:
    """Return the error of a name that is that of several, which other names tell apart."""
    listed = ", ".join(map(shown_name, means[:_LISTED]))
    more = f" and {len(means) - _LISTED} more" if len(means) > _LISTED else ""
    return ConfigError(
        option,
        "must name one layer or operator",
        got=f"{shown_name(name)}, which is in {len(means)} of them",
        hint=f"give one of: {listed}{more}",
    )


def unknown(name: str, known: Sequence[str], option: str = "--explain") -> ConfigError:
    """Return the error of a name that nothing has, with the names that are closest."""
    lower = {text.lower(): text for text in reversed(known)}
    close = [lower[key] for key in get_close_matches(name.lower(), lower, _SUGGESTED, 0.5)]
    parts = [text for text in known if name and name.lower() in text.lower()]
    near = [*dict.fromkeys([*close, *parts])][:_SUGGESTED]
    listed = ", ".join(map(shown_name, near))
    return ConfigError(
        option,
        "must name a layer on VTA or an operator on the host",
        got=shown_name(name),
        hint=f"close to it: {listed}" if near else "give no name to see all layers",
    )
