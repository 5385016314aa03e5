"""Lowering of concatenations: what its sources did not store in place is moved there."""

from __future__ import annotations

from typing import Final

from flow.compiler.operators.move import move
from flow.compiler.operators.operator import Lowerer

LOWERER: Final = Lowerer(lower=move)
