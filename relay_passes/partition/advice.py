"""What people can do about an operator that stays on the host, by the reason why it does."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from relay_passes.integers.elementwise import FAR_SCALES, MANY_LINES
from relay_passes.integers.make_plan import NO_COMMON_SCALE
from relay_passes.operators import rules
from relay_passes.operators.averages import NO_AVERAGE
from relay_passes.operators.calls import ACTIVATIONS
from relay_passes.operators.table import reason_of
from relay_passes.partition.fallbacks import (
    CONVERSION_REASONS,
    FLOAT_OPERAND,
    NO_INTEGERS,
    NO_MOVE,
    NO_PATTERN,
)
from relay_passes.partition.host_work import DEQUANTIZE, QUANTIZE

_SCALES: Final = (
    "its scales are too far apart: calibrate on images like those that the network will see, or "
    "choose another variant"
)
_PER_TENSOR: Final = "choose a variant with one scale per tensor, such as per_tensor"
_POOLING: Final = "change the pooling, or replace it by one that fits"
_OF_RULES: Final[Mapping[rules.Rule, str]] = {
    rules.nchw_layout: "export the model in the layout NCHW, as PyTorch does",
    rules.four_dimensions: "give its tensors the dimensions batch, channels, rows and columns",
    rules.one_image_of_int8: "choose a machine of batch 1 with 8-bit operands (--config)",
    rules.padding_fits: "do a part of the padding in a Pad operator before it",
    rules.windows_meet_the_input: "pad less: some windows contain nothing but padding",
    rules.window_fits: "choose a machine with larger inp and wgt buffers (--config), or a smaller "
    "kernel or dilation",
    rules.dense_dilation: _POOLING,
    rules.windows_start_inside: _POOLING,
    rules.one_number_a_block: f"quantize for this machine, or {_PER_TENSOR}",
    rules.sums_rows_and_columns: "add over all rows and columns, and keep the dimensions",
    rules.multiplies_if_possible: "choose a variant without multipliers, such as best, or a "
    "machine with the capability mul (--config)",
    rules.shifts_in_range: _SCALES,
    rules.residuals_fit: _SCALES,
    rules.limits_fit: _SCALES,
    rules.channels_are_filled: "add whole blocks of channels, or channels of zeros",
    rules.one_left_shift: _PER_TENSOR,
}
#: By reason; reasons that name tensors and numbers say themselves what must hold.
ADVICE: Final[Mapping[str, str]] = MappingProxyType(
    {
        **{reason_of(rule): text for rule, text in _OF_RULES.items()},
        **{row.otherwise: "use ReLU or ReLU6" for row in ACTIVATIONS.values() if row.otherwise},
        NO_COMMON_SCALE: _SCALES,
        FAR_SCALES: _SCALES,
        MANY_LINES: "replace the function by one that is closer to a few straight lines, such as "
        "ReLU6, hard sigmoid or hard swish",
        NO_AVERAGE: "use an average over all rows and columns, or windows without dilation",
        NO_MOVE: "move it before the first or behind the last layer on VTA, or leave it out",
        NO_PATTERN: "quantize the float model, or a file that is quantized already with "
        "--qdq requantize",
        FLOAT_OPERAND: "runs on VTA once the operator that makes this operand does",
        NO_INTEGERS: "replace it by operators that VTA runs (docs/operators.md), or move it "
        "before the first or behind the last layer on VTA",
        CONVERSION_REASONS[QUANTIZE]: "no longer needed once the operator that makes the tensor "
        "runs on VTA",
        CONVERSION_REASONS[DEQUANTIZE]: "no longer needed once the operator that reads the tensor "
        "runs on VTA",
    }
)


def advice_for(reason: str) -> str:
    """Return what can be done about an operator that is on the host for a reason."""
    return ADVICE.get(reason, "choose another variant, or calibrate on other images")
