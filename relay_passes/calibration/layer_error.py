"""Compare a quantized model's tensors with the float one's: where accuracy goes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from relay_passes.graph import Module, dtype_of, op_name, read_graph
from relay_passes.host.expose import expose_variables
from relay_passes.host.run import HostModule
from relay_passes.numerics import decibels, limited_db
from relay_passes.operators.calls import RESHAPES


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerError:
    """How far a quantized tensor is from the float one.

    Parameters
    ----------
    name : str
        The tensor.
    sqnr_db : float
        10 log10(sum f² / sum (f - s q)²) with the scale s that makes it largest, within
        ±`numerics.SQNR_LIMIT_DB`.
    """

    name: str
    sqnr_db: float


def layer_errors(
    float_mod: Module, quantized: Module, images: Iterable[NDArray[Any]]
) -> tuple[LayerError, ...]:
    """Return the error of each int8 tensor that has a float one of the same name, worst first.

    Parameters
    ----------
    float_mod : IRModule
        What was quantized, after the passes that change channels.
    quantized : IRModule
        Integers, not partitioned.
    images : iterable of float32[N, C, H, W]
    """
    floats = {b.var.name: b.var for b in read_graph(float_mod).bindings}
    integers = {
        b.var.name: b.var
        for b in read_graph(quantized).bindings
        if dtype_of(b.var) == "int8" and op_name(b.value) not in RESHAPES  # would repeat the row
    }
    names = [name for name in integers if name in floats]
    run_float = HostModule(expose_variables(float_mod, [floats[n] for n in names]), fast=True)
    run_int = HostModule(expose_variables(quantized, [integers[n] for n in names]), fast=True)
    sums = np.zeros((len(names), 3))  # f², f q, q²
    for image in images:
        pairs = zip(run_float(image)[-len(names) :], run_int(image)[-len(names) :], strict=True)
        for row, (f, q) in zip(sums, pairs, strict=True):
            f, q = f.ravel().astype(np.float64), q.ravel().astype(np.float64)
            row += f @ f, f @ q, q @ q
    found = [LayerError(name=n, sqnr_db=_best(*row)) for n, row in zip(names, sums, strict=True)]
    return tuple(sorted(found, key=lambda error: error.sqnr_db))


def _best(ff: float, fq: float, qq: float) -> float:
    """Return the SQNR at s = sum f q / sum q², which leaves sum f² - (sum f q)² / sum q²."""
    noise = ff - fq * fq / qq if qq > 0 else ff
    return limited_db(decibels(ff, max(noise, 0.0)))
