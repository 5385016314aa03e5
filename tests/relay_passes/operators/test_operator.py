"""Windows over a picture, and multiply-accumulate counts."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import relax

from relay_passes.operators.operator import Window, macs
from relay_passes.operators.table import OPERATORS

PICTURE = np.arange(9).reshape(1, 1, 3, 3)


def test_attributes_are_read() -> None:
    x = relax.Var("x", relax.TensorType((1, 2, 9, 9), "float32"))
    w = relax.Var("w", relax.TensorType((4, 2, 3, 5), "float32"))
    call = relax.op.nn.conv2d(x, w, (2, 1), (1, 2, 3, 4), (1, 2))
    assert Window.of(call.attrs, (3, 5)) == Window((3, 5), (2, 1), (1, 2), (1, 2, 3, 4))


@pytest.mark.parametrize(
    ("window", "extent"),
    [
        (Window(), (7, 5)),
        (Window((3, 3)), (5, 3)),
        (Window((3, 3), padding=(1, 1, 1, 1)), (7, 5)),
        (Window((2, 2), (2, 2)), (3, 2)),  # rounded down
        (Window((2, 3), (3, 1), (2, 2), (0, 1, 1, 0)), (2, 2)),
    ],
)
def test_extent_of_the_output(window: Window, extent: tuple[int, int]) -> None:
    assert window.extent((1, 8, 7, 5)) == extent


def test_taps_in_order_with_what_they_read() -> None:
    views = Window((2, 2)).views(PICTURE, (1, 1, 2, 2), fill=0)
    assert [(dy, dx, part.reshape(-1).tolist()) for dy, dx, part in views] == [
        (0, 0, [0, 1, 3, 4]),
        (0, 1, [1, 2, 4, 5]),
        (1, 0, [3, 4, 6, 7]),
        (1, 1, [4, 5, 7, 8]),
    ]


def test_strides_dilation_and_padding_of_views() -> None:
    window = Window((1, 2), (2, 2), (1, 2), (1, 0, 0, 1))
    assert window.extent((1, 1, 3, 3)) == (2, 1)
    views = window.views(PICTURE, (1, 1, 2, 1), fill=-128)
    # Rows -1 (padding) and 1; columns 0 and 2.
    assert [part.reshape(-1).tolist() for _, _, part in views] == [[-128, 3], [-128, 5]]
    views = window._replace(pad_value=-8).views(PICTURE, (1, 1, 2, 1))
    assert [part.reshape(-1).tolist() for _, _, part in views] == [[-8, 3], [-8, 5]]


def test_macs() -> None:
    assert macs((1, 4, 8, 8), (4, 3, 3, 3)) == 4 * 64 * 27
    assert macs((2, 7), (5, 7), axis=1) == 2 * 7 * 5


def test_an_operator_has_a_weight_where_it_has_an_axis_for_it() -> None:
    assert [kind for kind, row in OPERATORS.items() if row.has_weight] == [
        "depthwise_conv2d", "grouped_conv2d", "conv2d", "dense",
    ]  # fmt: skip
