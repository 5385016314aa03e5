"""What partition leaves to the host, and why; read without TVM, which takes seconds to load."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

#: What conversions between floats and integers on the host are called.
QUANTIZE: Final = "quantize"
DEQUANTIZE: Final = "dequantize"
CONVERSIONS: Final = (QUANTIZE, DEQUANTIZE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fallback:
    """An operator that stays on the host.

    Parameters
    ----------
    name : str
        Tensor that it makes.
    operator : str
        Relax operator, e.g. ``nn.conv2d``; ``quantize`` or ``dequantize`` for the operators that
        convert between floats and integers.
    reason : str
        Why VTA does not run it.
    node, node_type : str
        Name and operator of the ONNX node that the tensor comes from; "" where it is not known.
    """

    name: str
    operator: str
    reason: str
    node: str = ""
    node_type: str = ""

    @property
    def label(self) -> str:
        """What people look for: the ONNX node and its operator, else the tensor and Relax's."""
        known = self.node_type if self.operator not in CONVERSIONS else ""
        return f"{self.node or self.name} ({known or self.operator})"


@dataclass(frozen=True, slots=True, kw_only=True)
class HostWork:
    """What of a quantized module runs where.

    Parameters
    ----------
    fallbacks : tuple of Fallback
        In the order of the graph.
    before, behind : tuple of Fallback
        Preprocessing of the input and post-processing of the results: arithmetic on each number,
        softmax and the like, which the host would do anyway.
    vta_macs, macs : int
        Multiply-accumulate operations of convolutions and dense layers for one image: those of
        VTA, and all.
    """

    fallbacks: tuple[Fallback, ...]
    vta_macs: int
    macs: int
    before: tuple[Fallback, ...] = ()
    behind: tuple[Fallback, ...] = ()
