"""What an integer module says of itself, as attributes that partition and reports read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from relay_passes.graph import Module

_ERRORS: Final = "requantization_errors"
_HOST: Final = "host_reasons"


def with_facts(mod: Module, *, errors: Mapping[str, float], host: Mapping[str, str]) -> Module:
    """Return `mod` with what `requantization_errors` and `host_reasons` return."""
    with_errors = mod.with_attr(_ERRORS, json.dumps(dict(errors)))
    return with_errors.with_attr(_HOST, json.dumps(dict(host)))


def requantization_errors(mod: Module) -> dict[str, float]:
    """Return |used / meant - 1| of each requantized tensor's ratio of scales, by tensor name.

    Parameters
    ----------
    mod : IRModule
        As `Requantize` returned it. Shifts are exact but for scales stored as float32.
    """
    return {str(name): float(error) for name, error in _read(mod, _ERRORS).items()}


def host_reasons(mod: Module) -> dict[str, str]:
    """Return why operators with an integer form stayed floats, by the name of what they make.

    Parameters
    ----------
    mod : IRModule
        As `Requantize` returned it.
    """
    return {str(name): str(reason) for name, reason in _read(mod, _HOST).items()}


def _read(mod: Module, name: str) -> dict[str, Any]:
    attrs = mod.attrs
    text = attrs[name] if attrs is not None and name in attrs else "{}"
    found: dict[str, Any] = json.loads(str(text))
    return found
