"""What an integer module says of itself, as attributes that partition and reports read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from relay_passes.graph import Module
from relay_passes.integers.plan import QuantPlan

_ERRORS: Final = "requantization_errors"
_HOST: Final = "host_reasons"
_PLAN: Final = "quantization_plan"


def with_facts(
    mod: Module, *, errors: Mapping[str, float], host: Mapping[str, str], plan: QuantPlan
) -> Module:
    """Return `mod` with what the functions of this file return."""
    for name, value in ((_ERRORS, dict(errors)), (_HOST, dict(host)), (_PLAN, plan.to_json())):
        mod = mod.with_attr(name, json.dumps(value))
    return mod


def without_plan(mod: Module) -> Module:
    """Return `mod` with its integers alone: without the plan and the errors that led to them.

    Two plans may give the same integers; then these modules are equal.
    """
    for name in (_PLAN, _ERRORS):
        if mod.attrs is not None and name in mod.attrs:
            mod = mod.without_attr(name)
    return mod


def quantization_plan(mod: Module) -> QuantPlan | None:
    """Return the plan that `Requantize` read; None of a module that it did not make."""
    values = _read(mod, _PLAN)
    return QuantPlan.from_json(values) if values else None


def requantization_errors(mod: Module) -> dict[str, float]:
    """Return |used / meant - 1| of each requantized tensor's ratio of scales, by tensor name.

    Parameters
    ----------
    mod : IRModule
        As `Requantize` returned it. 0 where a shift is all there is.
    """
    return {str(name): float(error) for name, error in _read(mod, _ERRORS).items()}


def host_reasons(mod: Module) -> dict[str, str]:
    """Return why operators with an integer implementation stayed float, by the output's name.

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
