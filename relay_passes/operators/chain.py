"""A layer in a graph: the operator that starts an accumulator, and what follows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from tvm import relax

from relay_passes.graph import Expr, constant, dtype_of, op_name
from relay_passes.operators.movement import Movement

#: Return the binding that makes a variable which only one operator reads, else None.
MakerOf: TypeAlias = Callable[[Expr], "Expr | None"]
#: Rows and columns around a feature map: (top, left, bottom, right).
Sides: TypeAlias = tuple[int, int, int, int]
NO_SIDES: Final[Sides] = (0, 0, 0, 0)


class Padding(NamedTuple):
    """What stands around a feature map.

    Parameters
    ----------
    sides : tuple[int, int, int, int]
        Rows and columns: (top, left, bottom, right).
    value : int
        The number that stands there.
    """

    sides: Sides
    value: int


@dataclass(slots=True, kw_only=True, eq=False)
class Chain:
    """One layer in a graph.

    Parameters
    ----------
    kind : str
        How the accumulator starts: the kind of an operator of `table.OPERATORS`.
    anchor : relax.VarBinding
        The operator that starts it.
    bindings : list of relax.VarBinding
        All the layer's bindings, in no particular order.
    source : relax.Var or None
        The int8 tensor read first; None for ``add``.
    post_ops : list of (op, value, relax.Var or None)
        As `PostOp`, the tensor being a variable.
    output : relax.Var
        What the layer makes.
    summands : list of Chain
        Accumulators, each only its anchor, that are added to this one's before its post-ops.
    padding : Padding or None
        Of a convolution whose data are padded before it; its own pads nothing then.
    more_sources : tuple of relax.Var
        What is copied beside the source, or multiplied with it.
    zero_points : (int, int)
        What is subtracted from the source and from what it is multiplied with.
    movement : Movement or None
        What it copies from where, of an operator that moves.
    name : str
        The layer's: that of its anchor's, or for ``add`` of its output's.
    output_name : str
        The name of the tensor made; an int32 accumulator has the layer's where no other tensor has.
    """

    kind: str
    anchor: Expr
    bindings: list[Expr]
    source: Expr | None
    output: Expr
    post_ops: list[tuple[str, Any, Expr | None]] = field(default_factory=list)
    summands: list[Chain] = field(default_factory=list)
    padding: Padding | None = None
    more_sources: tuple[Expr, ...] = ()
    zero_points: tuple[int, int] = (0, 0)
    movement: Movement | None = None
    name: str = ""
    output_name: str = ""

    @classmethod
    def start(cls, kind: str, anchor: Expr, source: Expr | None, *more: Expr) -> Chain:
        """Return a chain that is only its anchor, and the bindings between it and its source."""
        bindings = [*more, anchor]
        return cls(kind=kind, anchor=anchor, bindings=bindings, source=source, output=anchor.var)

    @property
    def inputs(self) -> tuple[Expr, ...]:
        """The int8 tensors read: data first, the summands' data, then the residuals."""
        first = () if self.source is None else (self.source, *self.more_sources)
        summands = (product.source for product in self.summands)
        return (*first, *summands, *(var for _, _, var in self.post_ops if var is not None))


def multiplies_int8(binding: Expr) -> bool:
    """Whether an operator makes int32 of an int8 variable and an int8 constant, its weight."""
    args = binding.value.args
    return (
        dtype_of(binding.var) == "int32"
        and isinstance(args[0], relax.Var)
        and dtype_of(args[0]) == "int8"
        and (weight := constant(args[1])) is not None
        and weight.dtype == np.int8
    )


def widens(value: Expr) -> bool:
    """Whether a call casts an int8 variable to int32."""
    return (
        op_name(value) == "astype"
        and dtype_of(value) == "int32"
        and isinstance(value.args[0], relax.Var)
        and dtype_of(value.args[0]) == "int8"
    )
