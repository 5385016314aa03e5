"""Anchors of layers for the tests of operators."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax

from relay_passes.graph import op_name, read_graph
from relay_passes.operators.chain import Chain
from relay_passes.operators.operator import Operator
from relay_passes.partition.find_layers import ChainFinder


def int8(*values: Any) -> Any:
    """Return an int8 constant."""
    return relax.const(np.asarray(values[0] if len(values) == 1 else values, np.int8))


def ones(*shape: int) -> Any:
    """Return an int8 constant of ones."""
    return relax.const(np.ones(shape, np.int8))


def anchored(mod: Any, operator: Operator) -> Chain | None:
    """Return the chain that the last operator of its Relax name starts, if it does."""
    graph = read_graph(mod)
    makers = {b.var: b for b in graph.bindings}
    once = {var for var, found in graph.uses().items() if len(found) == 1}
    maker_of: Callable[[Any], Any] = lambda var: makers.get(var) if var in once else None  # noqa: E731
    (*_, binding) = (b for b in graph.bindings if op_name(b.value) == operator.integer_op)
    return operator.start(binding, maker_of)


def followed(mod: Any) -> Chain:
    """Return the only layer of a module, with its steps."""
    (chain,) = ChainFinder(read_graph(mod)).all()
    return chain
