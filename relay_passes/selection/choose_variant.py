"""Choose among candidate configurations of a network by their output error on given images.

Each step of a variant is chosen by its effect on one layer; whether all steps together help is only
known at the end. The candidates are ordered by their cost, and the first one within a margin of the
best is selected.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from relay_passes.graph import (
    Expr,
    GraphBuilder,
    Module,
    op_name,
    read_graph,
    replace_main,
    static_shape,
    substitute,
    variables,
)
from relay_passes.host.interpret import fast_run
from relay_passes.numerics import SQNR_LIMIT_DB, centred, limited_db, sqnr_db
from relay_passes.operators.calls import RESHAPES
from relay_passes.selection.choices import Candidate

#: A form is as good as the best one when it is this near, in dB: those that may be better take 2 to
#: 5 % more cycles, which less is not worth in a large network.
MARGIN_DB: Final = 1.0
#: The same for a small network, where one form may be many dB better than another.
SMALL_MARGIN_DB: Final = 0.2
#: Functions that make nothing of a difference between large values.
SATURATING: Final = frozenset({"nn.softmax", "nn.log_softmax", "sigmoid", "tanh"})


def results(mod: Module, images: Iterable[NDArray[Any]]) -> NDArray[np.float32]:
    """Run a module on the host; return all of its results, float32[images, values].

    Of a softmax or another function that saturates, its input is the result: a few images between
    two classes would decide alone.
    """
    run = fast_run(before_saturation(mod))
    return np.stack([np.concatenate([r.ravel() for r in run(x)]) for x in images])


def before_saturation(mod: Module) -> Module:
    """Return `mod` without the functions at its end that saturate, and what only they need."""
    graph = read_graph(mod)
    definitions = graph.definitions()

    def source(var: Expr) -> Expr:
        value, found = definitions.get(var), var
        while value is not None and op_name(value) in SATURATING | RESHAPES:
            var = value.args[0]
            if op_name(value) in SATURATING:
                found = var
            value = definitions.get(var)
        return found

    ends = [source(var) for var in graph.results]
    needed = set(ends)
    bindings = []
    for binding in reversed(graph.bindings):
        if binding.var in needed:
            bindings.append(binding)
            needed.update(variables(binding.value))
    builder = GraphBuilder()
    env: dict[Expr, Expr] = {}
    for binding in reversed(bindings):
        env[binding.var] = builder.emit(substitute(binding.value, env), binding.var.name)
    return replace_main(mod, builder, graph, [env.get(v, v) for v in ends])


def result_sizes(mod: Module) -> tuple[int, ...]:
    """Return how many values each result of `results` has."""
    graph = read_graph(before_saturation(mod))
    return tuple(math.prod(static_shape(var)) for var in graph.results)


def compare(
    name: str,
    values: NDArray[np.float32],
    reference: NDArray[np.float32],
    sizes: Sequence[int] = (),
) -> Candidate:
    """Compare the outputs of one candidate with the float ones, both float32[images, values].

    Of several outputs, of `sizes` values each, the mean of their SQNRs counts: one with large
    numbers should not decide alone.
    """
    if not np.isfinite(values).all():
        return Candidate(name=name, sqnr_db=-SQNR_LIMIT_DB, centred_db=-SQNR_LIMIT_DB)
    ends = [int(end) for end in np.cumsum(sizes)[:-1]]
    pairs = zip(*(np.split(x, ends, axis=1) for x in (reference, values)), strict=True)
    found = [_decibels(*pair) for pair in pairs]
    plain, middle = (float(np.mean(numbers)) for numbers in zip(*found, strict=True))
    return Candidate(name=name, sqnr_db=plain, centred_db=middle)


def _decibels(reference: NDArray[np.float32], values: NDArray[np.float32]) -> tuple[float, float]:
    """Return SQNR and centred SQNR of one output."""
    plain = middle = limited_db(sqnr_db(reference, values))
    if values.shape[1] > 1:
        middle = limited_db(sqnr_db(centred(reference), centred(values)))
    return plain, middle


def choose(candidates: Sequence[Candidate], margin_db: float) -> Candidate:
    """Return the first candidate that no other is better than by more than `margin_db`.

    Where none is near the best in both measures, the one that is behind least.
    """
    behind = [candidate.behind(candidates) for candidate in candidates]
    near = [c for c, db in zip(candidates, behind, strict=True) if db <= margin_db]
    return near[0] if near else candidates[int(np.argmin(behind))]
