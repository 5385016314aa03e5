"""What a layer may do with its accumulator, step by step."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

PostOpKind: TypeAlias = Literal[
    "add", "add_tensor", "add_scaled", "shr", "shl", "min", "max", "mul"
]
#: Post-ops whose value may be a vector, one number per output channel.
PER_CHANNEL_OPS: Final = frozenset({"add", "add_scaled", "shr", "shl", "mul"})
#: Post-ops that add an int8 tensor to the accumulator.
RESIDUAL_OPS: Final = frozenset({"add_tensor", "add_scaled"})
#: Post-ops that commute with the accumulator's own sum.
ADDITIONS: Final = frozenset({"add", *RESIDUAL_OPS})
