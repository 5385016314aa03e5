"""Dense layer: of a vector, and of a picture that a reshape made a vector."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import relax

from relay_passes.graph import constant
from relay_passes.operators.dense import OPERATOR
from relay_passes.operators.operator import Window
from tests.relay_passes.operators.anchors import anchored
from tests.relay_passes.partition.integers import Int8

MATRIX = np.int8([[1, 5], [2, 6], [3, 7], [4, 8]])


def test_of_a_vector() -> None:
    t = Int8((1, 4))
    mod = t.module(t.emit(relax.op.matmul(t.data, relax.const(MATRIX), out_dtype="int32")))
    chain = anchored(mod, OPERATOR)
    assert chain is not None and chain.source.same_as(t.data) and len(chain.bindings) == 1
    kind, window, weight = OPERATOR.read(chain.anchor.value, (1, 4, 1, 1))
    assert (kind, window) == ("dense", Window())
    assert weight is not None and weight.shape == (2, 4, 1, 1)
    shape = OPERATOR.out_shape((1, 4, 1, 1), window, weight.shape)
    x = np.asarray([1, 10, 100, -1]).reshape(1, 4, 1, 1)
    values = OPERATOR.meaning(x, weight, window, shape)
    assert values.reshape(-1).tolist() == [1 + 20 + 300 - 4, 5 + 60 + 700 - 8]


def test_of_a_picture_it_is_a_convolution_that_covers_it() -> None:
    t = Int8((1, 2, 1, 2))
    flat = t.emit(relax.op.reshape(t.data, (1, 4)))
    mod = t.module(t.emit(relax.op.matmul(flat, relax.const(MATRIX), out_dtype="int32")))
    chain = anchored(mod, OPERATOR)
    assert chain is not None and chain.source.same_as(t.data) and len(chain.bindings) == 2
    kind, window, weight = OPERATOR.read(chain.anchor.value, (1, 2, 1, 2))
    assert (kind, window) == ("conv2d", Window((1, 2)))
    assert weight is not None
    np.testing.assert_array_equal(weight, [[[[1, 2]], [[3, 4]]], [[[5, 6]], [[7, 8]]]])


@pytest.mark.parametrize("read_again", [False, True])
def test_a_vector_that_others_read_is_not_taken_in(read_again: bool) -> None:
    t = Int8((1, 2, 1, 2))
    flat = t.emit(relax.op.reshape(t.data, (1, 4)))
    y = t.emit(relax.op.matmul(flat, relax.const(MATRIX), out_dtype="int32"))
    chain = anchored(t.module(y, *([flat] if read_again else [])), OPERATOR)
    assert chain is not None and chain.source.name == ("lv0" if read_again else "x")


def test_of_three_dimensions_the_source_is_the_vector() -> None:
    t = Int8((1, 2, 2))
    flat = t.emit(relax.op.reshape(t.data, (1, 4)))
    y = t.emit(relax.op.matmul(flat, relax.const(MATRIX), out_dtype="int32"))
    chain = anchored(t.module(y), OPERATOR)
    assert chain is not None and chain.source.name == "lv0"


def test_the_integer_form_multiplies_matrices() -> None:
    x, w = (relax.Var(n, relax.TensorType(s, "float32")) for n, s in (("x", (1, 4)), ("w", (4, 2))))
    assert OPERATOR.integer is not None and OPERATOR.weight_axis == 1
    assert OPERATOR.integer.fits(relax.op.matmul(x, w))
    stack = relax.Var("s", relax.TensorType((3, 4, 2), "float32"))
    assert not OPERATOR.integer.fits(relax.op.matmul(x, stack))
    made = OPERATOR.integer.make(relax.op.matmul(x, w), x, MATRIX, (0, 0, 0, 0))
    np.testing.assert_array_equal(constant(made.args[1]), MATRIX)
    assert str(made.attrs.out_dtype) == "int32"
