"""What a learner keeps of each stage that is finished, so that it goes on where it was stopped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from hashlib import sha256
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from relay_passes.graph import Module, constant, op_name, read_graph, variables

#: Part of every key: raise it when the same inputs are learned otherwise.
VERSION: Final = 1
Arrays = Mapping[str, NDArray[Any]]


class Kept(Protocol):
    """Holds arrays by the key of a run and the number of a stage."""

    def load(self, key: str, number: int) -> Arrays | None:
        """Return what was saved, None where nothing whole was."""
        ...

    def save(self, key: str, number: int, arrays: Arrays) -> None:
        """Keep the arrays of a stage."""
        ...


def key_of(mod: Module, facts: Sequence[Any], arrays: Arrays, images: NDArray[Any]) -> str:
    """Return what tells one run of a learner from all others.

    Parameters
    ----------
    mod : IRModule
        The float module: its operators and all constants count.
    facts : sequence
        Dataclasses, tuples, mappings, sets, and what has a ``repr`` of its own.
    arrays : dict[str, number[...]]
    images : number[N, C, H, W]
        What is learned from.
    """
    found = sha256(_told((VERSION, *facts)).encode())
    for binding in read_graph(mod).bindings:
        value = binding.value
        names = [str(v.name) for v in variables(value)]
        found.update(repr((str(binding.var.name), op_name(value), names)).encode())
        found.update(str(getattr(value, "attrs", None)).encode())
        for arg in getattr(value, "args", ()):
            found.update(_bytes(constant(arg)) if constant(arg) is not None else b"")
    for name in sorted(arrays):
        found.update(name.encode() + _bytes(arrays[name]))
    for image in images:  # together they are large
        found.update(_bytes(image))
    return found.hexdigest()


def _told(value: Any) -> str:
    """Return what is in a value, the same in every process: the order in sets is not."""
    if is_dataclass(value):
        named = {field.name: getattr(value, field.name) for field in fields(value)}
        return f"{type(value).__name__}{_told(named)}"
    if isinstance(value, Mapping):
        return repr(sorted((_told(key), _told(item)) for key, item in value.items()))
    if isinstance(value, Set):
        return repr(sorted(map(_told, value)))
    return repr([*map(_told, value)]) if isinstance(value, (tuple, list)) else repr(value)


def _bytes(array: Any) -> bytes:
    return b"%a %a" % (array.shape, str(array.dtype)) + np.ascontiguousarray(array).tobytes()
