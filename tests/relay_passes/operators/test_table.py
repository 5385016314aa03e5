"""The table decides who starts a layer, and whether VTA takes it."""

from __future__ import annotations

import pytest
from tvm import relax

from relay_passes.graph import read_graph
from relay_passes.operators.table import OPERATORS, refusal, start
from tests.relay_passes.operators.anchors import followed, ones
from tests.relay_passes.partition.integers import Int8
from vta_config import VTAConfig


@pytest.mark.parametrize(
    ("groups", "kind"), [(1, "conv2d"), (2, "grouped_conv2d"), (4, "depthwise_conv2d")]
)
def test_of_two_operators_the_first_that_takes_it(groups: int, kind: str) -> None:
    t = Int8()
    (binding,) = read_graph(t.module(t.conv(t.data, groups=groups))).bindings
    chain = start(binding, lambda var: None)
    assert chain is not None and chain.kind == kind


def test_what_no_operator_starts() -> None:
    t = Int8()
    (binding,) = read_graph(t.module(t.emit(relax.op.negative(t.data)))).bindings
    assert start(binding, lambda var: None) is None


def test_a_refusal_is_the_rules_sentence(default_config: VTAConfig) -> None:
    t = Int8()
    assert refusal(followed(t.module(t.small(t.conv(t.data)))), default_config) == ""
    t = Int8()
    assert refusal(followed(t.module(t.small(t.conv(t.data), 32))), default_config) == (
        "a shift must be in [0, 31]"
    )


def test_a_summand_is_asked_too(default_config: VTAConfig) -> None:
    t = Int8()
    wide = relax.op.nn.conv2d(t.data, ones(4, 4, 33, 33), padding=16, out_dtype="int32")
    chain = followed(t.module(t.small(t.emit(relax.op.add(t.conv(t.data), t.emit(wide))))))
    assert len(chain.summands) == 1
    assert refusal(chain, default_config) == "the padding must be at most 15 on every side"


def test_rows_are_named_by_their_kind() -> None:
    assert [row.kind for row in OPERATORS.values()] == list(OPERATORS)
    assert [kind for kind, row in OPERATORS.items() if row.keeps_scale] == ["max_pool2d", "move"]
    assert [kind for kind, row in OPERATORS.items() if row.starts_empty] == ["add"]
    assert [kind for kind, row in OPERATORS.items() if row.adds_up] == ["conv2d", "dense"]
