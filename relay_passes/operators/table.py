"""The table of operators: a new one is a file here, a row, and the same in `flow`."""

from __future__ import annotations

from types import MappingProxyType
from typing import Final

from relay_passes.graph import Expr, op_name
from relay_passes.operators import (
    add,
    avg_pool2d,
    concat,
    conv2d,
    dense,
    depthwise_conv2d,
    grouped_conv2d,
    max_pool2d,
    move,
    resize2d,
    scale_channels,
    sum_pool2d,
)
from relay_passes.operators.chain import Chain, MakerOf
from relay_passes.operators.rules import Rule
from vta_config.hardware import VTAConfig

#: By kind. Of two that one operator of Relax could start, the first is asked first.
OPERATORS: Final = MappingProxyType(
    {
        row.kind: row
        for row in (
            depthwise_conv2d.OPERATOR,
            grouped_conv2d.OPERATOR,
            conv2d.OPERATOR,
            dense.OPERATOR,
            add.OPERATOR,
            max_pool2d.OPERATOR,
            avg_pool2d.OPERATOR,
            sum_pool2d.OPERATOR,
            resize2d.OPERATOR,
            scale_channels.OPERATOR,
            concat.OPERATOR,
            move.OPERATOR,
        )
    }
)


def start(binding: Expr, maker_of: MakerOf) -> Chain | None:
    """Return a chain that is only its anchor, or None when `binding` is none."""
    name = op_name(binding.value)
    for row in OPERATORS.values():
        if name in row.integer_ops and (chain := row.start(binding, maker_of)) is not None:
            return chain
    return None


def refusal(chain: Chain, config: VTAConfig) -> str:
    """Return why VTA does not take a chain, "" when it does."""
    for part in (chain, *chain.summands):
        for rule in OPERATORS[part.kind].rules:
            if not rule(part, config):
                return reason_of(rule)
    return ""


def reason_of(rule: Rule) -> str:
    """Return why VTA does not take what a rule refuses: its sentence, for the middle of another."""
    sentence = (rule.__doc__ or "").partition("\n")[0].rstrip(".")
    return sentence[:1].lower() + sentence[1:]
