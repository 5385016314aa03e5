"""Lowering of dense layers: convolutions of 1 × 1 on one pixel."""

from __future__ import annotations

from typing import Final

from flow.compiler.operators.conv2d import convolution
from flow.compiler.operators.operator import Lowerer

LOWERER: Final = Lowerer(lower=convolution, searched=True)
