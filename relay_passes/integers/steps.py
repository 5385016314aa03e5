"""Steps: how integers make an int8 tensor of other int8 tensors, element by element.

A step is a post-op (`operators.post_ops`) on an accumulator that starts at 0. The planner writes
them, `Requantize` emits them, the compiler finds them as one layer: the integers are the same
everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from relay_passes.operators.post_ops import POST_OPS

#: The step that multiplies the accumulator by t - v, t with one number per channel; no post-op.
TIMES: Final = "times"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One post-op.

    Parameters
    ----------
    op : str
        The name of a row of `POST_OPS`, or `TIMES`.
    value : tuple[int, ...]
        Its operand: one, or one per channel.
    tensor : str, optional
        The int8 tensor that it reads.
    """

    op: str
    value: tuple[int, ...]
    tensor: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorSteps:
    """The steps of one int8 tensor.

    Parameters
    ----------
    suffix : str
        What follows the name of the whole plan's tensor in its own; "" for that itself.
    steps : tuple[Step, ...]
    """

    suffix: str
    steps: tuple[Step, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StepsPlan:
    """An int8 tensor: parts that later ones read, and itself at the end.

    Parameters
    ----------
    parts : tuple[TensorSteps, ...]
        A step of a later part reads an earlier one by its suffix.
    """

    parts: tuple[TensorSteps, ...]

    @property
    def shift(self) -> int:
        """How many bits of the accumulator the last part's result has not."""
        return next((s.value[0] for s in reversed(self.parts[-1].steps) if s.op == "shr"), 0)

    def reading(self, names: Mapping[str, str]) -> StepsPlan:
        """Return it with other names of the tensors that it reads."""
        return StepsPlan(
            parts=tuple(
                replace(
                    part,
                    steps=tuple(
                        s if s.tensor is None else replace(s, tensor=names.get(s.tensor, s.tensor))
                        for s in part.steps
                    ),
                )
                for part in self.parts
            )
        )

    def to_json(self) -> list[dict[str, Any]]:
        """Return it as JSON values; `from_json` reads them back."""
        return [
            {
                "suffix": part.suffix,
                "steps": [
                    {"op": s.op, "value": list(s.value)}
                    | ({} if s.tensor is None else {"tensor": s.tensor})
                    for s in part.steps
                ],
            }
            for part in self.parts
        ]

    @classmethod
    def from_json(cls, values: Any) -> StepsPlan:
        """Read what `to_json` wrote; a ValueError, TypeError or KeyError says that it is not."""
        return cls(
            parts=tuple(
                TensorSteps(
                    suffix=str(part["suffix"]),
                    steps=tuple(
                        Step(
                            op=str(s["op"]),
                            value=tuple(integer(v) for v in s["value"]),
                            tensor=None if "tensor" not in s else str(s["tensor"]),
                        )
                        for s in part["steps"]
                    ),
                )
                for part in values
            )
        )


def integer(value: Any) -> int:
    """Return a JSON value that must be an integer; a ValueError says that it is none."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"{value!r} is no integer")
    return value


def clipped(shift: int, limits: tuple[int, int]) -> tuple[Step, ...]:
    """Return the shift of an accumulator of 2^-shift units, and the clip to the output's limits."""
    return (
        *([Step(op="shr", value=(shift,))] if shift else []),
        Step(op="max", value=(limits[0],)),
        Step(op="min", value=(limits[1],)),
    )


def narrowed(level: int, shift: int, limits: tuple[int, int]) -> tuple[Step, ...]:
    """Return the steps from an accumulator of 2^-shift units to the output's integers, rounded.

    Parameters
    ----------
    level : int
        What is still to be added, in these units.
    shift : int
    limits : (int, int)
        What the output is clipped to.
    """
    constant = level + (1 << shift >> 1)
    return (
        *([Step(op="add", value=(constant,))] if constant else []),
        *clipped(shift, limits),
    )


def run_steps(plan: StepsPlan, tensors: Mapping[str, NDArray[Any]]) -> NDArray[np.int64]:
    """Return what a plan makes of tensors, int64[N, C, ...]; see `PostOpRow.meaning`.

    Parameters
    ----------
    plan : StepsPlan
    tensors : Mapping[str, int[N, C, ...]]
        By the names that the steps read.
    """
    known = {name: np.asarray(values, np.int64) for name, values in tensors.items()}
    result = np.zeros((), np.int64)
    for part in plan.parts:
        acc = np.zeros_like(next(iter(known.values())))
        for step in part.steps:
            value: Any = np.asarray(step.value, np.int64)
            value = (
                int(value[0]) if len(value) == 1 else value.reshape(1, -1, *[1] * (acc.ndim - 2))
            )
            tensor = None if step.tensor is None else known[step.tensor]
            if step.op == TIMES:
                acc = acc * (tensor - value)
            else:
                acc = POST_OPS[step.op].meaning(acc, value, tensor)
        known[part.suffix] = result = acc
    return result
