"""Names of tensors, and what passes know of them: kept beside the names, never read out of them.

A tensor's name is its variable's, unique in a graph. A layer has a name of its own: the tensors on
the way to its result (``layer2.0.conv1.acc``) are other tensors, and a layer of the user's may well
be called like one of them. Two attributes of a module say what a name cannot: which names the model
brought along, and which layer a tensor on the way belongs to.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Final

Module = Any

_LAYERS_ATTR: Final = "layer_of_tensor"
_GIVEN_ATTR: Final = "given_names"


class Names:
    """Give names of their own.

    Parameters
    ----------
    taken : iterable of str
        Names that are in use.
    mark : str
        What stands between a name and its number.
    """

    def __init__(self, taken: Iterable[str] = (), mark: str = "_") -> None:
        """Start with names in use."""
        self._taken = set(taken)
        self._mark = mark
        self._numbers: dict[str, int] = {}

    def fresh(self, name: str) -> str:
        """Return `name`, or where it is taken `name` and a number; it is taken from now on."""
        result, number = name, self._numbers.get(name, 1)
        while result in self._taken:
            number += 1
            result = f"{name}{self._mark}{number}"
        self._numbers[name] = number
        self._taken.add(result)
        return result


def layer_names(mod: Module) -> dict[str, str]:
    """Return the layer of each tensor that is not called like its layer."""
    return {str(k): str(v) for k, v in _read(mod, _LAYERS_ATTR, {}).items()}


def with_layer_names(mod: Module, layers: Mapping[str, str]) -> Module:
    """Return `mod` with the layers of its tensors, for `layer_names`."""
    return mod.with_attr(_LAYERS_ATTR, json.dumps(dict(layers)))


def given_names(mod: Module) -> frozenset[str] | None:
    """Return the names that the model brought along; None where that was not said."""
    names = _read(mod, _GIVEN_ATTR, None)
    return None if names is None else frozenset(names)


def with_given_names(mod: Module, names: Iterable[str]) -> Module:
    """Return `mod` with the names that the model brought along, for `given_names`."""
    return mod.with_attr(_GIVEN_ATTR, json.dumps(sorted(names)))


def _read(mod: Module, attribute: str, default: Any) -> Any:
    attrs = mod.attrs
    if attrs is None or attribute not in attrs:
        return default
    return json.loads(str(attrs[attribute]))
