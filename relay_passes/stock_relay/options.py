"""The options of `relay.quantize.qconfig` that decide numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from vta_config.errors import ConfigError

Kind: TypeAlias = Literal["input", "weight", "activation"]
IntType: TypeAlias = Literal["int8", "int16", "int32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StockOptions:
    """Hold the options of `relay.quantize.qconfig` that decide numbers; the defaults are Relay's.

    Parameters
    ----------
    global_scale : float
        Largest activation magnitude, for every activation: scale = global_scale / 2^(nbit − 1).
    skip_conv_layers : tuple of int, optional
        Convolutions that stay in float, counted from 0 in Relay's order (operands first, left to
        right, from the output back); None skips none.
    skip_dense_layer : bool
        Leave dense layers in float. (After a global average pool Relay leaves everything.)
    weight_scale : {"power2", "max"}
        max|w| of a constant rounded up to a power of two, or as it is.
    round_for_shift : bool
        Add half of the divisor before a right shift.
    rounding : {"UPWARD", "TONEAREST"}
        Where fixed-point multiplications send ties: up, or away from zero.
    nbit_input, nbit_weight, nbit_activation : int
        Bits of the three kinds, sign included.
    dtype_input, dtype_weight, dtype_activation : {"int8", "int16", "int32"}
        Types they are stored in.

    Raises
    ------
    ConfigError
        For a value Relay has no meaning for.
    """

    global_scale: float = 8.0
    skip_conv_layers: tuple[int, ...] | None = (0,)
    skip_dense_layer: bool = True
    weight_scale: Literal["power2", "max"] = "power2"
    round_for_shift: bool = True
    rounding: Literal["UPWARD", "TONEAREST"] = "UPWARD"
    nbit_input: int = 8
    nbit_weight: int = 8
    nbit_activation: int = 32
    dtype_input: IntType = "int8"
    dtype_weight: IntType = "int8"
    dtype_activation: IntType = "int32"

    def __post_init__(self) -> None:
        """Check every option."""
        if not (0 < self.global_scale < math.inf):
            raise _option_error("global_scale", "a positive number", self.global_scale)
        if self.weight_scale not in ("power2", "max"):
            raise _option_error("weight_scale", "'power2' or 'max'", self.weight_scale)
        if self.rounding not in ("UPWARD", "TONEAREST"):
            raise _option_error("rounding", "'UPWARD' or 'TONEAREST'", self.rounding)
        if any(index < 0 for index in self.skip_conv_layers or ()):
            raise _option_error("skip_conv_layers", "indices from 0", self.skip_conv_layers)
        for kind in ("input", "weight", "activation"):
            dtype, bits = getattr(self, f"dtype_{kind}"), getattr(self, f"nbit_{kind}")
            if dtype not in ("int8", "int16", "int32"):
                raise _option_error(f"dtype_{kind}", "'int8', 'int16' or 'int32'", dtype)
            if not 2 <= bits <= np.iinfo(dtype).bits:
                limit = np.iinfo(dtype).bits
                raise _option_error(f"nbit_{kind}", f"in [2, {limit}] to fit {dtype}", bits)

    def bits(self, kind: Kind) -> int:
        """Return the bits of a kind, sign included."""
        return int(getattr(self, f"nbit_{kind}"))


def _option_error(name: str, must: str, got: object) -> ConfigError:
    """Return the error for an option out of its range."""
    return ConfigError(f"StockOptions.{name}", f"must be {must}", got=repr(got))
