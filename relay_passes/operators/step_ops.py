"""What a layer may do with its accumulator, step by step."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

StepOp: TypeAlias = Literal["add", "add_tensor", "add_scaled", "shr", "shl", "min", "max", "mul"]
#: Step operations whose value may be a vector, one number an output channel.
PER_CHANNEL_OPS: Final = frozenset({"add", "add_scaled", "shr", "shl", "mul"})
#: Step operations that add an int8 tensor to the accumulator.
RESIDUAL_OPS: Final = frozenset({"add_tensor", "add_scaled"})
#: Step operations that commute with the accumulator's own sum.
ADDITIONS: Final = frozenset({"add", *RESIDUAL_OPS})
