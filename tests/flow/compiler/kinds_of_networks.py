"""Small forms of the networks that people bring, as float modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from tvm import relax

from tests.relay_passes.models import CNN

NEAREST: Final = {
    "method": "nearest_neighbor",
    "coordinate_transformation_mode": "asymmetric",
    "rounding_method": "floor",
}


def _size(x: Any) -> tuple[int, int, int]:
    _, channels, height, width = (int(n) for n in x.ty.shape.values)
    return channels, height, width


def _pool(net: CNN, x: Any, kernel: int = 2, stride: int = 2, pad: int = 0) -> Any:
    return net.emit(relax.op.nn.max_pool2d(x, (kernel,) * 2, (stride,) * 2, (pad,) * 4))


def _cat(net: CNN, *parts: Any) -> Any:
    return net.emit(relax.op.concat([*parts], axis=1))


def _block(net: CNN, x: Any, out: int, kernel: int = 3, **options: Any) -> Any:
    return net.relu(net.conv(x, out, kernel, **options))


def _leaky(net: CNN, x: Any, out: int, kernel: int = 3) -> Any:
    return net.emit(relax.op.nn.leakyrelu(net.conv(x, out, kernel), 0.1))


def _up(net: CNN, x: Any, out: int, kernel: int, **options: Any) -> Any:
    weight = net.const(_size(x)[0], out, kernel, kernel)
    x = net.emit(relax.op.nn.conv2d_transpose(x, weight, (2, 2), **options))
    return net.emit(relax.op.add(x, net.const(1, out, 1, 1)))


def _enlarged(net: CNN, x: Any, times: int = 2, **options: Any) -> Any:
    _, height, width = _size(x)
    size = (times * height, times * width)
    return net.emit(relax.op.image.resize2d(x, size, layout="NCHW", **options))


def _u_net(enlarge: Callable[[CNN, Any], Any]) -> Any:
    net = CNN((1, 3, 8, 8))
    first = _block(net, net.data, 12)
    low = _block(net, _pool(net, first), 20)
    x = _cat(net, first, enlarge(net, low))
    return net.module(net.conv(_block(net, x, 12), 2, 1))


def _yolo() -> Any:
    net = CNN((1, 3, 16, 16))
    fine = _leaky(net, _pool(net, _leaky(net, net.data, 12)), 20)
    coarse = _leaky(net, _pool(net, fine), 24)
    coarse = _leaky(net, _pool(net, coarse, 3, 1, 1), 16, 1)
    up = _enlarged(net, _leaky(net, coarse, 8, 1), **NEAREST)
    return net.module(net.conv(coarse, 18, 1), net.conv(_cat(net, up, fine), 18, 1))


def _dark_net() -> Any:
    net = CNN((1, 3, 16, 16))
    x = _pool(net, _leaky(net, _pool(net, _leaky(net, net.data, 8)), 16))
    x = _leaky(net, _leaky(net, _leaky(net, x, 24), 12, 1), 24)
    return net.module(net.head(net.conv(x, 10, 1)))


def _autoencoder(kernel: int) -> Any:
    net = CNN((1, 3, 8, 8))
    x = _block(net, _block(net, net.data, 12, strides=(2, 2)), 20, strides=(2, 2))
    more = {"output_padding": (1, 1)} if kernel == 3 else {}
    for out in (12, 3):
        x = net.relu(_up(net, x, out, kernel, padding=(1, 1, 1, 1), **more))
    return net.module(x)


def _resnet_a() -> Any:
    """ResNet of option A: shortcuts by every second pixel, and channels of zeros."""
    net = CNN((1, 3, 8, 8))
    x = _block(net, net.data, 8)
    y = net.conv(_block(net, x, 16, strides=(2, 2)), 16)
    x = net.emit(relax.op.strided_slice(x, [2, 3], [0, 0], [8, 8], [2, 2]))
    x = net.emit(relax.op.nn.pad(x, [0, 0, 4, 4, 0, 0, 0, 0]))
    return net.module(net.head(net.relu(net.add(x, y))))


def _ds_cnn() -> Any:
    net = CNN((1, 1, 25, 10))
    weight = net.const(20, 1, 10, 4)
    call = relax.op.nn.conv2d(net.data, weight, strides=(2, 2), padding=(4, 1, 5, 1))
    x = net.relu(net.emit(call))
    for _ in range(2):
        x = _block(net, _block(net, x, 20, groups=20), 20, 1)
    return net.module(net.head(x))


def _mobile_net() -> Any:
    net = CNN((1, 3, 16, 16))
    x = _block(net, net.data, 8, strides=(2, 2))
    for out, stride in ((16, 1), (24, 2)):
        groups = _size(x)[0]
        x = net.conv(x, groups, groups=groups, strides=(stride, stride))
        x = net.emit(relax.op.clip(x, 0.0, 6.0))
        x = net.emit(relax.op.clip(net.conv(x, out, 1), 0.0, 6.0))
    return net.module(net.head(x))


def _bottlenecks(groups: int) -> Any:
    net = CNN((1, 3, 8, 8))
    x = _pool(net, _block(net, net.data, 16), 3, 2, 1)
    skip = net.conv(x, 32, 1)
    y = _block(net, _block(net, x, 16, 1), 16, groups=groups)
    x = net.relu(net.add(net.conv(y, 32, 1), skip))
    return net.module(net.head(net.relu(net.add(net.conv(_block(net, x, 8, 1), 32, 1), x))))


def _squeeze_net() -> Any:
    net = CNN((1, 3, 13, 13))
    x = _pool(net, _block(net, net.data, 16, strides=(2, 2)), 3)
    small = _block(net, x, 8, 1)
    x = _cat(net, _block(net, small, 16, 1), _block(net, small, 16))
    return net.module(net.emit(relax.op.mean(_block(net, x, 10, 1), [2, 3], keepdims=True)))


def _inception() -> Any:
    net = CNN((1, 3, 8, 8))
    x = _block(net, net.data, 16)
    parts = [_block(net, x, 12, 1), _block(net, _block(net, x, 8, 1), 16)]
    parts.append(_block(net, _pool(net, x, 3, 1, 1), 8, 1))
    return net.module(net.head(_cat(net, *parts)))


def _dense_net() -> Any:
    net = CNN((1, 3, 8, 8))
    x = _pool(net, _block(net, net.data, 16))
    for _ in range(2):
        ones = relax.const(
            np.linspace(0.5, 1.5, _size(x)[0]).reshape(1, -1, 1, 1).astype("float32")
        )
        scaled = net.emit(relax.op.add(net.emit(relax.op.multiply(x, ones)), ones))
        x = _cat(net, x, net.conv(_block(net, net.relu(scaled), 16, 1), 8))
    x = net.emit(relax.op.nn.avg_pool2d(net.conv(net.relu(x), 16, 1), (2, 2), (2, 2)))
    return net.module(net.head(x))


def _shuffle_net() -> Any:
    net = CNN((1, 3, 8, 8))
    x = _block(net, net.data, 16, strides=(2, 2))
    left, right = (
        net.emit(relax.op.strided_slice(x, [1], [start], [start + 8])) for start in (0, 8)
    )
    right = _block(net, net.conv(_block(net, right, 8, 1), 8, groups=8), 8, 1)
    x = net.emit(relax.op.reshape(_cat(net, left, right), (1, 2, 8, 4, 4)))
    x = net.emit(relax.op.permute_dims(x, [0, 2, 1, 3, 4]))
    return net.module(net.head(net.emit(relax.op.reshape(x, (1, 16, 4, 4)))))


def _plain() -> Any:
    """Max-pools, and dense layers of a map: AlexNet and VGG."""
    net = CNN((1, 3, 11, 11))
    x = _pool(net, _block(net, net.data, 16, 5, strides=(2, 2)), 3)
    x = net.emit(relax.op.reshape(_block(net, x, 24), (1, -1)))
    for inputs, out in ((96, 40), (40, 7)):
        x = net.emit(relax.op.matmul(x, net.const(inputs, out)))
        x = net.emit(relax.op.add(x, net.const(out)))
        x = net.relu(x) if out > 7 else x
    return net.module(x)


def _pyramid() -> Any:
    """Pooled maps enlarged to one size, beside a sum of maps of several sizes."""
    net = CNN((1, 3, 8, 8))
    x = _block(net, net.data, 16)
    one = net.conv(net.emit(relax.op.mean(x, [2, 3], keepdims=True)), 16, 1)
    few = net.emit(relax.op.nn.avg_pool2d(x, (4, 4), (4, 4)))
    few = _enlarged(
        net,
        _block(net, few, 8, 1),
        4,
        method="linear",
        coordinate_transformation_mode="align_corners",
        rounding_method="",
    )
    return net.module(net.conv(_cat(net, net.relu(net.add(x, one)), few), 3, 1))


def _super_resolution() -> Any:
    net = CNN((1, 1, 6, 6))
    x = net.conv(_block(net, net.data, 16, 5), 8)
    x = net.emit(relax.op.reshape(net.relu(x), (1, 2, 2, 2, 6, 6)))
    x = net.emit(relax.op.permute_dims(x, [0, 1, 4, 2, 5, 3]))
    x = net.conv(net.emit(relax.op.reshape(x, (1, 2, 12, 12))), 1)
    noise = _enlarged(net, net.data, **NEAREST)
    return net.module(net.emit(relax.op.subtract(noise, x)))


#: By name.
NETWORKS: Final[dict[str, Callable[[], Any]]] = {
    "U-Net, transposed convolutions": lambda: _u_net(lambda net, x: _up(net, x, 12, 2)),
    "U-Net, nearest": lambda: _u_net(lambda net, x: _enlarged(net, x, **NEAREST)),
    "U-Net, bilinear": lambda: _u_net(
        lambda net, x: _enlarged(
            net,
            x,
            method="linear",
            coordinate_transformation_mode="half_pixel",
            rounding_method="",
        )
    ),
    "YOLO": _yolo,
    "DarkNet": _dark_net,
    "autoencoder, 3 × 3": lambda: _autoencoder(3),
    "autoencoder, 4 × 4": lambda: _autoencoder(4),
    "ResNet-20 A": _resnet_a,
    "DS-CNN": _ds_cnn,
    "MobileNet": _mobile_net,
    "ResNet": lambda: _bottlenecks(1),
    "ResNeXt, RegNet": lambda: _bottlenecks(4),
    "SqueezeNet": _squeeze_net,
    "GoogLeNet": _inception,
    "DenseNet": _dense_net,
    "ShuffleNet": _shuffle_net,
    "AlexNet, VGG": _plain,
    "pyramid": _pyramid,
    "super-resolution": _super_resolution,
}


def _same(net: CNN, x: Any, kernel: int = 3) -> Any:
    return net.conv(x, _size(x)[0], kernel)


def _reduced(net: CNN, x: Any) -> Any:
    """Halve a map where it has two rows at least, by an average."""
    return net.emit(relax.op.nn.avg_pool2d(x, (2, 2), (2, 2))) if _size(x)[1] > 1 else x


def _scaled(net: CNN, x: Any) -> Any:
    """Squeeze-and-excitation."""
    one = net.emit(relax.op.mean(x, [2, 3], keepdims=True))
    return net.emit(relax.op.multiply(x, net.emit(relax.op.sigmoid(_same(net, one, 1)))))


#: What networks for any machine are made of: each takes a map and returns one.
STEPS: Final[tuple[Callable[[CNN, Any], Any], ...]] = (
    lambda net, x: net.relu(_same(net, x)),
    lambda net, x: net.conv(x, 2 * _size(x)[0], 1),
    lambda net, x: _leaky(net, x, _size(x)[0], 1),
    lambda net, x: net.relu(net.conv(x, _size(x)[0], groups=_size(x)[0])),
    lambda net, x: _block(net, x, 8, strides=(2, 2)),
    lambda net, x: net.relu(net.add(_same(net, x), x)),
    lambda net, x: net.add(net.relu(_same(net, x, 1)), _same(net, x)),
    lambda net, x: _pool(net, x, 3, 1, 1),
    lambda net, x: _pool(net, net.relu(_same(net, x)), 3, 2, 1),
    lambda net, x: _cat(net, x, net.relu(_same(net, x, 1))),
    lambda net, x: _enlarged(net, x, **NEAREST),
    lambda net, x: _up(net, x, 8, 2),
    lambda net, x: net.emit(relax.op.nn.silu(_same(net, x, 1))),
    lambda net, x: net.emit(relax.op.nn.pad(x, [0, 0, 0, 0, 1, 0, 0, 2])),
    lambda net, x: net.emit(relax.op.strided_slice(x, [1], [_size(x)[0] // 2], [_size(x)[0]])),
    _reduced,
    _scaled,
)


def chain(steps: Sequence[int], channels: int, size: int) -> Any:
    """Build a network of some of `STEPS`, by their places, before a dense layer."""
    net = CNN((1, channels, size, size))
    x = net.data
    for step in steps:
        x = STEPS[step](net, x)
    return net.module(net.head(x))
