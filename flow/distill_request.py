"""What the user asks of calibration images that are distilled from a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from relay_passes.calibration.distill import DistillOptions


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillRequest:
    """How calibration images are distilled.

    Parameters
    ----------
    images : int
        Number of images.
    batch, steps : int, optional
        Images that are optimized together; steps of the optimizer for each batch.
    seed : int
    device : str
        Where PyTorch computes: ``cpu``, ``cuda``, ``cuda:1``.
    generator, latents, swing : bool
        Parts of the method; an image without generator is optimized pixel by pixel.
    """

    images: int = 64
    batch: int | None = None
    steps: int | None = None
    seed: int = 0
    device: str = "cpu"
    generator: bool = True
    latents: bool = True
    swing: bool = True

    def options(self) -> DistillOptions:
        """Return the options of `relay_passes.calibration.distill`, with its own defaults."""
        from relay_passes.calibration.distill import DistillOptions  # brings in TVM

        given = {name: getattr(self, name) for name in ("batch", "steps")}
        return DistillOptions(
            images=self.images,
            seed=self.seed,
            device=self.device,
            generator=self.generator,
            latents=self.latents,
            swing=self.swing,
            **{name: value for name, value in given.items() if value is not None},
        )
