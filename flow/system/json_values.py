"""Turn dataclasses and paths into values that JSON has."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any


def json_value(value: Any, *, without: Collection[str] = ()) -> Any:
    """Return a value as JSON has it: objects of dataclasses and mappings, lists, strings of paths.

    Parameters
    ----------
    value : dataclass, mapping, collection, Path, str, number, bool or None
    without : collection of str
        Fields of the outermost dataclass that are left out.

    Raises
    ------
    TypeError
        When it is anything else.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Path):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        names = (f.name for f in fields(value) if f.name not in without)
        return {name: json_value(getattr(value, name)) for name in names}
    if isinstance(value, Mapping):
        return {str(key): json_value(own) for key, own in value.items()}
    if isinstance(value, (set, frozenset)):
        return sorted(json_value(own) for own in value)
    if isinstance(value, (list, tuple)):
        return [json_value(own) for own in value]
    raise TypeError(f"{type(value).__name__}: must be a value of JSON; add a case to json_value")
