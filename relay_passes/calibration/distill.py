"""Make calibration images from the statistics of a network's BatchNorms, without any data.

Every BatchNorm holds mean and variance of its input over the training images. Images are sought
with which the frozen network shows the same numbers (GENIE, Jeon et al., arXiv 2212.04780):

- A generator (`image_generator`) and its latent vectors are learned together, batch by batch.
- The loss is, over all BatchNorms, the mean over channels of
  ((mean - running mean)² + (std - running std)²) / d², both over images and pixels, plus the same
  for each image's own channels against mean 0 and standard deviation 1 of the generator's output.
- Swing convolution: each strided convolution sees its input moved by up to one pixel, mirrored at
  the edge, at random in every step. Without it images get checkerboards.

d² is the channel's running variance plus a hundredth of the layer's mean one, and that hundredth is
in both standard deviations, too. So a layer counts by relative errors, whatever its scale is, and a
channel that is almost constant, whose variance may be 1e-13, counts by absolute ones.

Images are looked for in the model's own input space. The generator's output has mean 0 and standard
deviation 1, as images of a model with normalized input have; where the statistics of the first
BatchNorms contradict that (raw bytes, say), the range that fits noise best is the start. Mean and
standard deviation of each input channel are learned from there.

Latents and generator have the published rates. They fall as half a cosine: a few hundred steps are
too few to find plateaus in a loss that swings.

Needs PyTorch (``pip install vta-flow[torch]``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from relay_passes.calibration.distill_options import DistillOptions
from relay_passes.calibration.image_generator import LATENTS, ImageGenerator, standardized
from relay_passes.calibration.norm_statistics import Norm, NormLoss, norms_of, usual_range
from relay_passes.graph import Module, ints, op_name, read_graph, static_shape
from relay_passes.host.torch_graph import (
    Tensor,
    TorchGraph,
    exact_convolutions,
    import_torch,
    only_input,
    usable_device,
)
from vta_config.errors import CalibrationError, UnsupportedModelError

#: What else one may do.
HINT: Final = "calibrate with images"
LATENT_RATE, GENERATOR_RATE, PIXEL_RATE, RANGE_RATE = 0.1, 0.01, 0.1, 0.03
#: The rates rise for the steps divided by this.
WARM_UP: Final = 40
#: Rows or columns from which on a feature map swings: one of 2x2 would become another picture.
SWING_SIZE: Final = 14


@dataclass(frozen=True, slots=True, kw_only=True)
class DistilledBatch:
    """Images made together.

    Parameters
    ----------
    number : int
        From 0; with the options it determines the images.
    images : float32[N, C, H, W]
        In the model's own input space.
    losses : float32[steps]
        Before each step.
    """

    number: int
    images: NDArray[np.float32]
    losses: NDArray[np.float32]


def distill(
    mod: Module,
    options: DistillOptions | None = None,
    *,
    done: Collection[int] = (),
    progress: Callable[[int, int, str], None] | None = None,
) -> Iterator[DistilledBatch]:
    """Yield calibration images, batch by batch.

    Parameters
    ----------
    mod : IRModule
        Float module of one image float32[1, C, H, W], with its BatchNorms: before they are folded.
    options : DistillOptions, optional
    done : collection of int
        Numbers of batches that are not computed again.
    progress : callable (done, total, note), optional
        Told after every step of all batches; the note has the loss before it.

    Raises
    ------
    ConfigError
        When PyTorch or the device is missing.
    CalibrationError
        When statistics are so large that the loss overflows.
    UnsupportedModelError
        When there are no BatchNorm statistics to learn from, the graph has an operator without
        derivatives here, or its operators mix the images of a batch.
    """
    options = options or DistillOptions()
    torch = import_torch("distill", hint=HINT)
    network = _Network(mod, torch, options)
    numbers = [n for n in range(options.batches) if n not in done]
    for position, number in enumerate(numbers):

        def told(step: int, loss: float, position: int = position) -> None:
            if progress is not None:
                done = position * options.steps + step
                progress(done, len(numbers) * options.steps, f"loss {loss:.3g}")

        images, losses = network.batch(number, told)
        left = options.images - number * options.batch
        yield DistilledBatch(number=number, images=images[:left], losses=losses)


class _Network:
    """The frozen network, and how a batch is learned with it."""

    def __init__(self, mod: Module, torch: Any, options: DistillOptions) -> None:
        self._torch, self._options = torch, options
        self._device = usable_device(torch, options.device, "distill")
        self._dtype = _dtype(torch, self._device, options.precision)
        param = only_input(read_graph(mod), HINT)
        _, *shape = static_shape(param)
        if len(shape) != 3:
            raise UnsupportedModelError(
                "model input",
                "must be images [N, C, H, W]",
                got=list(static_shape(param)),
                hint=HINT,
            )
        if _is_channels_last(mod):
            shape = [shape[2], *shape[:2]]
            self._own_order = (0, 2, 3, 1)
        else:
            self._own_order = (0, 1, 2, 3)
        self._shape: tuple[int, int, int] = (shape[0], shape[1], shape[2])
        self._graph = TorchGraph(
            mod, torch, device=self._device, dtype=self._dtype, trainable=False, hint=HINT
        )
        self._lay_out_weights()
        self._norms: tuple[Norm, ...] = norms_of(mod, self._graph)
        self._strided = {
            name
            for name in self._graph.named("nn.conv2d")
            if max(ints(self._graph.call_of(name).attrs.strides)) > 1
        }
        self._check_images_stay_apart()
        self._mean, self._std = usual_range(self._noise, self._loss_of_first)

    def batch(
        self, number: int, told: Callable[[int, float], None]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Learn one batch; return float32[batch, C, H, W] and float32[steps]."""
        torch, options = self._torch, self._options
        source = torch.Generator().manual_seed(_seed(options.seed, number))
        maker = _Maker(torch, self._shape, options, self._device, self._dtype, source)
        ranges = torch.zeros(2, self._shape[0], device=self._device).requires_grad_()
        optimizers = maker.optimizers()
        optimizers.append(_Adam(torch, [ranges], RANGE_RATE, options.steps))
        losses = np.zeros(options.steps, np.float32)
        with exact_convolutions(torch):
            for step in range(options.steps):
                unit = maker(source)
                loss = self._loss(self._placed(unit, ranges), source) + _image_loss(unit)
                for optimizer in optimizers:
                    optimizer.zero()
                losses[step] = float(loss.detach())
                if not np.isfinite(losses[step]):
                    raise CalibrationError(
                        "distill",
                        "must have a finite loss",
                        got=f"{losses[step]} in step {step + 1}",
                        hint=HINT,
                    )
                loss.backward()
                for optimizer in optimizers:
                    optimizer.step()
                told(step + 1, float(losses[step]))
            with torch.no_grad():
                images = self._placed(maker(source), ranges).permute(self._own_order)
        return images.float().contiguous().cpu().numpy(), losses

    def _placed(self, unit: Tensor, ranges: Tensor) -> Tensor:
        """Return images in the model's input space; `ranges` holds what was learned of it."""
        offset, scale = ranges.reshape(2, 1, -1, 1, 1)
        return (unit.float() * scale.exp() + offset) * self._std + self._mean

    def _loss(self, images: Tensor, source: Any | None, norms: Collection[Norm] = ()) -> Tensor:
        """Return the loss of all BatchNorms, or of some."""
        seen = NormLoss(self._torch)
        norms = norms or self._norms
        x = images.to(self._dtype).contiguous(memory_format=self._torch.channels_last)
        x = x.permute(self._own_order)
        self._graph.run(
            {self._graph.input_name: x},
            [norm.name for norm in norms],
            before=None if source is None else self._swing(source),
            instead={norm.name: seen.reader(norm) for norm in norms},
        )
        return seen.total

    def _swing(self, source: Any) -> Callable[[str, list[Any]], list[Any]] | None:
        if not self._options.swing:
            return None

        moved: dict[str, Tensor] = {}  # the branches of a residual block read one tensor

        def before(name: str, operands: list[Any]) -> list[Any]:
            if name not in self._strided:
                return operands
            read = self._graph.reads_of(name)[0]
            if read not in moved:
                x = operands[0]
                for axis in (2, 3):
                    move = int(self._torch.randint(-1, 2, (), generator=source))
                    x = _moved(self._torch, x, axis, move)
                moved[read] = x
            return [moved[read], *operands[1:]]

        return before

    def _noise(self, count: int) -> Tensor:
        """Return smooth noise of mean 0 and standard deviation 1, float32[count, C, H, W]."""
        torch, (channels, height, width) = self._torch, self._shape
        source = torch.Generator().manual_seed(_seed(self._options.seed, -1))
        total, size = torch.zeros(count, channels, height, width), max(height, width)
        while size >= 1:  # about as much of each octave, as in photographs
            rows, columns = -(-height // size), -(-width // size)
            drawn = torch.randn(count, channels, rows, columns, generator=source)
            # Photographs are more grey than coloured.
            drawn += 2 * torch.randn(count, 1, rows, columns, generator=source)
            large = drawn.repeat_interleave(size, 2).repeat_interleave(size, 3)
            total += large[:, :, :height, :width]
            size //= 2
        return standardized(total).to(self._device)

    def _loss_of_first(self, images: Tensor) -> float:
        """Return the loss of the BatchNorms that no other one lies before."""
        with self._torch.no_grad():
            first = [norm for norm in self._norms if norm.first]
            return float(self._loss(images, None, first))

    def _lay_out_weights(self) -> None:
        for name, weight in self._graph.weights.items():
            if weight.ndim == 4:
                self._graph.weights[name] = weight.contiguous(
                    memory_format=self._torch.channels_last
                )

    def _check_images_stay_apart(self) -> None:
        torch = self._torch
        pair = self._noise(2).to(self._dtype).permute(self._own_order)
        last = [norm.source for norm in self._norms]
        try:
            with torch.no_grad():
                both = self._graph.run({self._graph.input_name: pair}, last)
                alone = self._graph.run({self._graph.input_name: pair[1:]}, last)
            apart = all(
                len(both[name]) == 2
                and torch.allclose(
                    both[name][1].float(), alone[name][0].float(), rtol=0.1, atol=0.1
                )
                for name in last
            )
        except RuntimeError:  # a reshape to numbers that hold for one image only
            apart = False
        if not apart:
            raise UnsupportedModelError(
                "model",
                "must treat the images of a batch one by one",
                got="operators that mix them",
                hint=HINT,
            )


class _Maker:
    """What is learned: a generator and latent vectors, one of them, or pixels."""

    def __init__(
        self,
        torch: Any,
        shape: tuple[int, int, int],
        options: DistillOptions,
        device: str,
        dtype: Any,
        source: Any,
    ) -> None:
        self._torch, self._options, self._device = torch, options, device
        self._generator = self._latents = self._pixels = None
        if not options.generator:
            drawn = torch.randn((options.batch, *shape), generator=source).to(device)
            self._pixels = drawn.requires_grad_()
            return
        self._generator = ImageGenerator(torch, shape, device=device, dtype=dtype, source=source)
        if options.latents:
            self._latents = self._drawn(source).requires_grad_()

    def __call__(self, source: Any) -> Tensor:
        """Return the images, of standard deviation 1."""
        if self._generator is None:
            return self._pixels
        latents = self._drawn(source) if self._latents is None else self._latents
        return self._generator(latents)

    def optimizers(self) -> list[_Adam]:
        """Return one optimizer for each kind of what is learned."""
        torch, steps = self._torch, self._options.steps
        result: list[_Adam] = []
        if self._pixels is not None:
            result.append(_Adam(torch, [self._pixels], PIXEL_RATE, steps))
        if self._latents is not None:
            result.append(_Adam(torch, [self._latents], LATENT_RATE, steps))
        if self._generator is not None:
            result.append(_Adam(torch, self._generator.parameters, GENERATOR_RATE, steps))
        return result

    def _drawn(self, source: Any) -> Tensor:
        shape = (self._options.batch, LATENTS)
        return self._torch.randn(shape, generator=source).to(self._device)


class _Adam:
    """Adam whose rate rises for a fortieth of the steps, then falls to 0 as half a cosine."""

    def __init__(self, torch: Any, tensors: list[Tensor], rate: float, steps: int) -> None:
        self._adam = torch.optim.Adam(tensors, lr=rate, fused=True)
        self._rate, self._steps, self._done = rate, steps, 0

    def zero(self) -> None:
        self._adam.zero_grad(set_to_none=True)

    def step(self) -> None:
        rising = min(1.0, (self._done + 1) * WARM_UP / self._steps)
        falling = 0.5 + 0.5 * math.cos(math.pi * self._done / self._steps)
        for group in self._adam.param_groups:
            group["lr"] = self._rate * rising * falling
        self._adam.step()
        self._done += 1


def _image_loss(unit: Tensor) -> Tensor:
    """Return how far each image's channels are from mean 0 and standard deviation 1."""
    flat = unit.float().flatten(2)
    mean = flat.mean(2)
    std = ((flat - mean[:, :, None]).square().mean(2) + 1e-6).sqrt()
    return (mean.square() + (std - 1).square()).mean()


def _moved(torch: Any, x: Tensor, axis: int, move: int) -> Tensor:
    """Return `x` moved by one along an axis, mirrored at the edge; as it is where move is 0.

    The same as a crop at a random place of what is padded by one mirrored row; made of slices,
    whose derivatives a GPU always adds in the same order.
    """
    size = x.shape[axis]
    if move == 0 or size < SWING_SIZE:
        return x
    if move > 0:
        parts = (x.narrow(axis, 1, 1), x.narrow(axis, 0, size - 1))
    else:
        parts = (x.narrow(axis, 1, size - 1), x.narrow(axis, size - 2, 1))
    return torch.cat(parts, axis)


def _is_channels_last(mod: Module) -> bool:
    """Tell whether the input is [N, H, W, C]: all that reads it makes [N, C, H, W] of it."""
    graph = read_graph(mod)
    uses = graph.uses().get(graph.params[0], [])
    return bool(uses) and all(
        use is not None
        and op_name(use.value) == "permute_dims"
        and use.value.attrs.axes is not None
        and ints(use.value.attrs.axes) == (0, 3, 1, 2)
        for use in uses
    )


def _seed(seed: int, number: int) -> int:
    """Return a seed of 63 bits for a batch; -1 is that of the noise."""
    return int(np.random.SeedSequence([seed, number + 1]).generate_state(1, np.uint64)[0] >> 1)


def _dtype(torch: Any, device: str, precision: str) -> Any:
    if precision != "auto":
        return getattr(torch, precision)
    if device.startswith("cuda"):
        fast = torch.cuda.is_bf16_supported()
    else:
        fast = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.bfloat16 if fast else torch.float32
