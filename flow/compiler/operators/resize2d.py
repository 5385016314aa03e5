"""Lowering of linear interpolation: a movement whose copies count with factors."""

from __future__ import annotations

from typing import Final

from flow.compiler.operators.move import move
from flow.compiler.operators.operator import Lowerer

LOWERER: Final = Lowerer(lower=move)
