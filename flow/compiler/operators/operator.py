"""What the rest of the compiler knows of an operator: one row of the table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from flow.compiler.normal_form import NormalLayer
    from flow.compiler.order import Job
    from flow.compiler.workbench import Workbench


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Lowerer:
    """How an operator is lowered.

    Parameters
    ----------
    lower : callable
        Lower a layer in normal form on the workbench.
    searched : bool
        Whether the cost model chooses its tiling, which a search may better.
    """

    lower: Callable[[Workbench, NormalLayer], Iterator[Job]]
    searched: bool = False
