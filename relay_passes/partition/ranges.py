"""The range of an int8 tensor that the host makes: narrow operands need fewer planes then."""

from __future__ import annotations

import math
from collections.abc import Mapping

from relay_passes.graph import Expr, clip_limits, dtype_of, op_name
from relay_passes.operators.calls import moved
from relay_passes.operators.padding import read_padding
from relay_passes.partition.layers import INT8_RANGE


def int8_range(var: Expr, definitions: Mapping[Expr, Expr]) -> tuple[int, int]:
    """Return what the numbers of an int8 variable lie in: what it was clipped to before its cast.

    Parameters
    ----------
    var : relax.Var
    definitions : Mapping[relax.Var, relax.Expr]
        The values of bound variables.
    """
    if (value := definitions.get(var)) is None:
        return INT8_RANGE
    kind = op_name(value)
    if kind == "nn.pad" and (padding := read_padding(value)) is not None:
        inside = int8_range(value.args[0], definitions)
        return min(inside[0], padding.value), max(inside[1], padding.value)
    sources = moved(value)
    if sources and all(dtype_of(source) == "int8" for source in sources):
        lows, highs = zip(*(int8_range(source, definitions) for source in sources), strict=True)
        return min(lows), max(highs)
    clip = definitions.get(value.args[0]) if kind == "astype" else None
    if clip is None or op_name(clip) != "clip":
        return INT8_RANGE
    low, high = clip_limits(clip)
    return max(INT8_RANGE[0], math.ceil(low)), min(INT8_RANGE[1], math.floor(high))
