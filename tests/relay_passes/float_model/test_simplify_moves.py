"""Splits and channel movements become slices and takes; the results stay equal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tvm import relax
from tvm.relax import op

from relay_passes.float_model.simplify_moves import SimplifyMoves
from relay_passes.graph import op_name, read_graph
from relay_passes.host.run import HostModule
from tests.relay_passes.models import CNN, images


def index(*values: int) -> Any:
    return relax.const(np.asarray(values), "int64")


def shuffle(net: CNN, x: Any, groups: int) -> Any:
    n, channels, height, width = (int(v) for v in x.ty.shape.values)
    view = net.emit(op.reshape(x, (n, groups, channels // groups, height, width)))
    turned = net.emit(op.permute_dims(view, [0, 2, 1, 3, 4]))
    return net.emit(op.reshape(turned, (n, channels, height, width)))


def halves(net: CNN, x: Any) -> Any:
    """Return the even and the odd channels as exporters of ShuffleNet write them."""
    n, channels, height, width = (int(v) for v in x.ty.shape.values)
    view = net.emit(op.reshape(x, (n * channels // 2, 2, height * width)))
    view = net.emit(op.permute_dims(view, [1, 0, 2]))
    view = net.emit(op.reshape(view, (2, -1, channels // 2, height, width)))
    parts = [net.emit(op.take(view, relax.const(np.int64(i)), axis=0, mode="clip")) for i in (0, 1)]
    return net.emit(op.concat([net.relu(parts[1]), parts[0]], axis=1))


def known_index(net: CNN, x: Any, place: int) -> Any:
    """Return an index as TVM's importer writes it: counted from the end where it is negative."""
    shape = net.emit(op.shape_to_tensor(net.emit(op.shape_of(x))))
    size = net.emit(op.take(shape, index(1), axis=0, mode="wrap"))
    given = index(place)
    negative = net.emit(op.less(given, index(0)))
    return net.emit(op.where(negative, net.emit(op.add(given, size)), given))


def computed(net: CNN, x: Any) -> Any:
    return net.emit(op.take(x, known_index(net, x, -3), axis=1))


def split(net: CNN, x: Any) -> Any:
    parts = net.emit(op.split(shuffle(net, x, 2), [3, 5], axis=1))
    fields = [net.emit(relax.TupleGetItem(parts, i)) for i in range(3)]
    return net.emit(op.concat(fields[::-1], axis=1))


def one_row(net: CNN, x: Any) -> Any:
    row = net.emit(op.take(x, relax.const(np.int64(-2)), axis=2, mode="wrap"))
    return net.emit(op.expand_dims(row, [2]))


CASES: list[tuple[Callable[[CNN, Any], Any], list[str]]] = [
    (one_row, ["take"]),
    (lambda net, x: shuffle(net, x, 2), ["take"]),
    (lambda net, x: shuffle(net, shuffle(net, x, 2), 4), []),
    (halves, ["take", "take", "nn.relu", "concat"]),
    (split, ["take", "take", "take", "concat"]),
    (computed, ["strided_slice"]),
    (lambda net, x: net.emit(op.split(x, 2, axis=1)), ["strided_slice"]),
    (
        lambda net, x: net.emit(
            op.strided_slice(net.emit(op.strided_slice(x, [1], [2], [8])), [1], [1], [3])
        ),
        ["strided_slice"],
    ),
    (
        lambda net, x: net.emit(op.strided_slice(net.relu(x), [2], [1], [7])),
        ["nn.relu", "strided_slice"],
    ),
]


@pytest.mark.parametrize(("make", "left"), CASES)
def test_channels_are_taken_by_one_operator(
    make: Callable[[CNN, Any], Any], left: list[str]
) -> None:
    net = CNN((1, 3, 8, 8))
    made = make(net, net.conv(net.data, 8, bias=False))
    if isinstance(made.ty, relax.TupleType):
        made = net.emit(relax.TupleGetItem(made, 1))
    mod = net.module(net.relu(made))
    simple = SimplifyMoves()(mod)
    kinds = [op_name(b.value) for b in read_graph(simple).bindings]
    assert kinds == ["nn.conv2d", *left, "nn.relu"]
    (image,) = images(1, (1, 3, 8, 8))
    np.testing.assert_array_equal(HostModule(simple)(image)[0], HostModule(mod)(image)[0])


def test_indices_that_are_not_known_or_outside_stay() -> None:
    for make in (
        lambda net, x: known_index(net, x, 9),
        lambda net, x: net.emit(op.astype(net.emit(op.max(x, axis=[1, 2, 3])), "int64")),
    ):
        net = CNN((1, 3, 8, 8))
        x = net.conv(net.data, 8, bias=False)
        mod = net.module(net.relu(net.emit(op.take(x, make(net, x), axis=1, mode="clip"))))
        kinds = [op_name(b.value) for b in read_graph(SimplifyMoves()(mod)).bindings]
        assert kinds == [op_name(b.value) for b in read_graph(mod).bindings]


def test_what_moves_pixels_or_computes_stays() -> None:
    net = CNN((1, 3, 8, 8))
    x = net.conv(net.data, 8, bias=False)
    view = net.emit(op.reshape(x, (1, 2, 2, 2, 8, 8)))
    turned = net.emit(op.permute_dims(view, [0, 1, 4, 2, 5, 3]))
    mod = net.module(net.relu(net.emit(op.reshape(turned, (1, 2, 16, 16)))))
    kinds = [op_name(b.value) for b in read_graph(SimplifyMoves()(mod)).bindings]
    assert kinds == ["nn.conv2d", "reshape", "permute_dims", "reshape", "nn.relu"]
