"""Dataclasses as JSON, and profiles as arrays: exactly what was kept comes back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flow.cache.store import TEXT, UNREADABLE, text_array, text_of
from flow.results.bit_choice import BitChoice, LayerBits
from flow.results.layer_facts import LayerFacts
from relay_passes.params import TensorProfile
from relay_passes.selection.choices import Candidate, Choice, LayerProof
from vta_config.errors import FlowError

#: The dataclasses that are kept.
KNOWN: Final[Mapping[str, type[Any]]] = {
    cls.__name__: cls for cls in (BitChoice, Candidate, Choice, LayerBits, LayerFacts, LayerProof)
}


def to_json(value: Any) -> Any:
    """Return a value as JSON from which `from_json` makes it again.

    Raises
    ------
    TypeError
        When something in it is of another type.
    """
    if isinstance(value, float):
        return {"float": float(value).hex()}
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, tuple):
        return {"tuple": [to_json(item) for item in value]}
    if isinstance(value, list):
        return [to_json(item) for item in value]
    if isinstance(value, Mapping):
        return {"map": [[to_json(key), to_json(item)] for key, item in value.items()]}
    if is_dataclass(value) and KNOWN.get(type(value).__name__) is type(value):
        own = {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
        return {"class": type(value).__name__, "fields": own}
    raise TypeError(type(value).__name__)


def from_json(value: Any) -> Any:
    """Return what `to_json` was given.

    Raises
    ------
    Exception
        When it did not write this.
    """
    if isinstance(value, list):
        return [from_json(item) for item in value]
    if not isinstance(value, dict):
        return value
    if "float" in value:
        return float.fromhex(value["float"])
    if "tuple" in value:
        return tuple(from_json(item) for item in value["tuple"])
    if "map" in value:
        return {from_json(key): from_json(item) for key, item in value["map"]}
    return KNOWN[value["class"]](**{k: from_json(v) for k, v in value["fields"].items()})


def read_as(kind: type[Any], value: Any) -> Any:
    """Return what `to_json` wrote of a value of `kind`; None where it did not."""
    try:
        found = from_json(value)
    except (*UNREADABLE, AttributeError, FlowError):
        return None
    return found if isinstance(found, kind) else None


# ---- profiles ------------------------------------------------------------------------------------
def packed_profiles(profiles: Mapping[str, TensorProfile]) -> dict[str, NDArray[Any]]:
    """Return profiles as arrays."""
    arrays: dict[str, NDArray[Any]] = {}
    rows = []
    for index, (key, p) in enumerate(profiles.items()):
        numbers = [float(x).hex() for x in (p.lo, p.hi, p.limit)]
        rows.append([key, p.name, *numbers, int(p.samples)])
        arrays[f"histogram-{index}"], arrays[f"sample_hi-{index}"] = p.histogram, p.sample_hi
    return {TEXT: text_array(rows), **arrays}


def unpacked_profiles(arrays: Mapping[str, NDArray[Any]]) -> dict[str, TensorProfile] | None:
    """Return the profiles, None where `packed_profiles` did not make them."""
    try:
        found = {}
        for index, (key, name, lo, hi, limit, samples) in enumerate(text_of(arrays)):
            found[str(key)] = TensorProfile(
                name=str(name),
                lo=float.fromhex(lo),
                hi=float.fromhex(hi),
                limit=float.fromhex(limit),
                samples=int(samples),
                histogram=np.asarray(arrays[f"histogram-{index}"], np.int64),
                sample_hi=np.asarray(arrays[f"sample_hi-{index}"], np.float32),
            )
        return found
    except (*UNREADABLE, AttributeError, FlowError):
        return None
