"""Images that are read again whenever they are needed."""

from __future__ import annotations

import numpy as np

from flow.data.models import DIGITS, bundled_data, load_model
from flow.kept_pictures import Pictures


def test_pictures_are_decoded_when_they_are_read() -> None:
    data = bundled_data(load_model(DIGITS))[1]  # type: ignore[index]
    pictures = Pictures(data, range(2, 6))
    assert len(pictures) == 4 and len(pictures[1:3]) == 2
    for found, index in zip(pictures, range(2, 6), strict=True):
        np.testing.assert_array_equal(found, data[index])
    np.testing.assert_array_equal(pictures[1:3][0], data[3])
    copy = pictures[1:].as_data()
    assert len(copy) == 3
    np.testing.assert_array_equal(copy[2], data[5])
