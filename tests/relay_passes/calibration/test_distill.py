"""Images distilled from BatchNorm statistics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tvm import relax

from relay_passes.calibration import distill as module
from relay_passes.calibration.distill import DistillOptions, distill
from relay_passes.quantize_model import prepare
from tests.relay_passes.calibration.test_norm_statistics import batch_norm
from tests.relay_passes.models import CNN, residual_net
from vta_config.errors import CalibrationError, ConfigError, UnsupportedModelError

SMALL = DistillOptions(images=6, batch=4, steps=12)


def test_batches_come_in_order_and_may_be_continued() -> None:
    pytest.importorskip("torch")
    told: list[tuple[int, int]] = []
    mod = residual_net()
    batches = list(distill(mod, SMALL, progress=lambda *step: told.append(step[:2])))
    assert told == [(k, 24) for k in range(1, 25)]
    assert [batch.number for batch in batches] == [0, 1]
    assert [batch.images.shape for batch in batches] == [(4, 3, 12, 12), (2, 3, 12, 12)]
    for batch in batches:
        assert batch.images.dtype == batch.losses.dtype == np.float32
        assert batch.losses.shape == (12,) and batch.losses[-1] < 0.5 * batch.losses[0]
        assert np.isfinite(batch.images).all()
    assert not np.array_equal(batches[0].images[:2], batches[1].images)
    told.clear()
    (again,) = distill(mod, SMALL, done={0}, progress=lambda *step: told.append(step[:2]))
    assert told == [(k, 12) for k in range(1, 13)]
    assert again.number == 1 and np.array_equal(again.images, batches[1].images)
    # more images are the same ones and others
    more = next(distill(mod, replace(SMALL, images=100)))
    assert np.array_equal(more.images, batches[0].images)
    other = next(distill(mod, replace(SMALL, seed=1)))
    assert not np.array_equal(other.images, batches[0].images)
    assert not list(distill(mod, SMALL, done=(0, 1)))


@pytest.mark.parametrize("part", ["generator", "latents", "swing"])
def test_parts_may_be_left_out(part: str) -> None:
    pytest.importorskip("torch")
    options = replace(SMALL, images=4, steps=20, precision="float32")
    (whole,) = distill(residual_net(), options)
    (without,) = distill(residual_net(), replace(options, **{part: False}))
    assert without.losses[-1] < 0.7 * without.losses[0]
    if part != "swing":  # maps of 12 pixels do not swing
        assert not np.array_equal(without.images, whole.images)


@pytest.mark.parametrize("shape", [(1, 1, 49, 10), (1, 7, 5, 3), (1, 2, 1, 1)])
def test_any_shape(shape: tuple[int, ...]) -> None:
    pytest.importorskip("torch")
    net = CNN(shape=shape)
    x = net.relu(net.batch_norm(net.conv(net.data, 8, strides=(2, 2))))
    mod = net.module(net.head(x))
    (batch,) = distill(mod, replace(SMALL, images=4))
    assert batch.images.shape == (4, *shape[1:])
    (one,) = distill(mod, replace(SMALL, images=1, batch=1, steps=2))
    assert one.images.shape == shape and np.isfinite(one.images).all()


def test_statistics_are_met_in_the_models_own_space() -> None:
    pytest.importorskip("torch")
    net = CNN(shape=(1, 2, 8, 8))
    x = batch_norm(net, net.data, [110, 130], [3000, 5000])  # of raw bytes
    (batch,) = distill(net.module(net.head(x)), DistillOptions(images=16, batch=16, steps=60))
    np.testing.assert_allclose(batch.images.mean((0, 2, 3)), [110, 130], rtol=0.05)
    np.testing.assert_allclose(batch.images.var((0, 2, 3)), [3000, 5000], rtol=0.1)


def test_channels_may_come_last() -> None:
    pytest.importorskip("torch")
    found = []
    for last in (False, True):
        net = CNN(shape=(1, 9, 6, 2) if last else (1, 2, 9, 6))
        x = net.emit(relax.op.permute_dims(net.data, [0, 3, 1, 2])) if last else net.data
        x = net.relu(net.batch_norm(net.conv(x, 8)))
        (batch,) = distill(net.module(net.head(x)), replace(SMALL, images=4))
        found.append(batch.images)
    assert found[1].shape == (4, 9, 6, 2)
    np.testing.assert_array_equal(found[1].transpose(0, 3, 1, 2), found[0])


def test_swing_moves_large_maps_by_one_and_branches_together() -> None:
    torch = pytest.importorskip("torch")
    x = torch.arange(14.0).reshape(1, 1, 14, 1)
    row = list(range(14))
    for move, expected in ((0, row), (1, [1, *row[:-1]]), (-1, [*row[1:], 12])):
        assert module._moved(torch, x, 2, move).flatten().tolist() == expected
    assert torch.equal(module._moved(torch, x[:, :, :13], 2, 1), x[:, :, :13])
    assert torch.equal(module._moved(torch, x, 3, 1), x)

    net = CNN(shape=(1, 2, 20, 20))
    x = net.relu(net.batch_norm(net.conv(net.data, 4)))
    skip = net.batch_norm(net.conv(x, 4, 1, strides=(2, 2)))
    x = net.batch_norm(net.conv(x, 4, strides=(2, 2)))
    mod = net.module(net.head(net.add(x, skip)))
    options = replace(SMALL, images=4, precision="float32")
    network = module._Network(mod, torch, options)
    source = torch.Generator().manual_seed(0)
    swing = network._swing(source)
    assert swing is not None
    strided = sorted(network._strided)
    data = torch.randn(1, 4, 20, 20)
    (first, _), (second, _) = (swing(name, [data, None]) for name in strided)
    assert first is second and not torch.equal(first, data)
    plain = next(name for name in network._graph.weights if name not in strided)
    assert swing(plain, [data])[0] is data
    assert module._Network(mod, torch, replace(options, swing=False))._swing(source) is None
    (swung,) = distill(mod, options)
    (still,) = distill(mod, replace(options, swing=False))
    assert not np.array_equal(swung.images, still.images)


def test_networks_that_cannot_be_distilled() -> None:
    pytest.importorskip("torch")
    must = "must have BatchNorm statistics to make images from, got no BatchNorm"
    with pytest.raises(UnsupportedModelError, match=must):
        next(distill(prepare(residual_net())))
    net = CNN(shape=(1, 12))
    mod = net.module(net.emit(relax.op.matmul(net.data, net.const(12, 3))))
    must = r"model input: must be images \[N, C, H, W\], got \[1, 12\]; calibrate with images"
    with pytest.raises(UnsupportedModelError, match=must):
        next(distill(mod))


def test_a_loss_that_overflows() -> None:
    pytest.importorskip("torch")
    net = CNN()
    mod = net.module(net.head(batch_norm(net, net.data, [1e30, 0, 0], [1, 1, 1])))
    must = "distill: must have a finite loss, got inf in step 1; calibrate with images"
    with pytest.raises(CalibrationError, match=must):
        next(distill(mod, SMALL))


@pytest.mark.parametrize("mixes", ["mean over images", "reshape"])
def test_networks_that_mix_images(mixes: str) -> None:
    pytest.importorskip("torch")
    net = CNN()
    if mixes == "reshape":
        x = net.emit(relax.op.reshape(net.data, (3, 1, 12, 12)))
        x = net.emit(relax.op.permute_dims(x, [1, 0, 2, 3]))
    else:
        x = net.emit(relax.op.subtract(net.data, net.emit(relax.op.mean(net.data, axis=0))))
    mod = net.module(net.head(net.batch_norm(x)))
    must = "model: must treat the images of a batch one by one, got operators that mix them; calib"
    with pytest.raises(UnsupportedModelError, match=must):
        next(distill(mod))


def test_devices_and_precisions() -> None:
    torch = pytest.importorskip("torch")
    must = "distill.device: must be a device that PyTorch finds here, got cuda:99; use cpu"
    with pytest.raises(ConfigError, match=must):
        next(distill(residual_net(), replace(SMALL, device="cuda:99")))
    with pytest.raises(ConfigError, match="got nonsense; use cpu"):
        next(distill(residual_net(), replace(SMALL, device="nonsense")))
    for precision in ("float32", "bfloat16"):
        batch = next(distill(residual_net(), replace(SMALL, precision=precision)))
        assert batch.losses[-1] < 0.5 * batch.losses[0]
    assert module._dtype(torch, "cpu", "auto") in (torch.float32, torch.bfloat16)


@pytest.mark.usefixtures("no_torch")
def test_without_torch() -> None:
    must = "distill: must have PyTorch for its derivatives, got no module torch; pip install"
    with pytest.raises(ConfigError, match=must):
        next(distill(residual_net()))
