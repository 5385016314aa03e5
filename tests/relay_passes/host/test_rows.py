"""All inputs of a network in one array."""

from __future__ import annotations

import numpy as np
import pytest

from relay_passes.host.rows import array_shape, inputs_of

SHAPES = [(1, 2, 3), (1, 4), (1,)]


def test_one_input_is_the_array_itself() -> None:
    image = np.zeros((1, 3, 4, 4), np.float32)
    assert array_shape([image.shape]) == image.shape
    assert inputs_of(image, [image.shape])[0] is image


def test_several_inputs_are_a_row() -> None:
    row = np.arange(11.0)[np.newaxis]
    assert array_shape(SHAPES) == row.shape
    parts = inputs_of(row, SHAPES)
    assert [part.shape for part in parts] == SHAPES
    assert np.array_equal(np.concatenate([part.reshape(-1) for part in parts]), row[0])


def test_a_row_of_another_length() -> None:
    with pytest.raises(ValueError, match="cannot reshape"):
        inputs_of(np.zeros((1, 10)), SHAPES)
