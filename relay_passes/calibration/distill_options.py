"""How calibration images are distilled: known without TVM, which takes seconds to import."""

from __future__ import annotations

from dataclasses import dataclass

from vta_config.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class DistillOptions:
    """How images are distilled.

    Parameters
    ----------
    images : int
        How many are wanted.
    batch : int
        Images made together. Their statistics together are those of the training images, so that
        larger batches differ more among themselves.
    steps : int
        Of each batch.
    seed : int
        Of everything drawn at random; batches differ.
    device : str
        ``cpu``, ``cuda``, ``cuda:1``.
    generator : bool
        Whether a generator makes the images; their pixels are learned directly otherwise.
    latents : bool
        Whether the generator's latent vectors are learned; drawn anew in each step otherwise.
    swing : bool
        Whether strided convolutions swing.
    precision : {"auto", "float32", "bfloat16"}
        What the network computes in. "auto": bfloat16 where the device computes with it; twice as
        fast.
    """

    images: int = 64
    batch: int = 32
    steps: int = 300
    seed: int = 0
    device: str = "cpu"
    generator: bool = True
    latents: bool = True
    swing: bool = True
    precision: str = "auto"

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name, least in (("images", 1), ("batch", 1), ("steps", 1), ("seed", 0)):
            value = getattr(self, name)
            if value < least:
                raise ConfigError(
                    f"distill.{name}",
                    f"must be at least {least}",
                    got=value,
                    hint="raise it",
                )
        if self.precision not in ("auto", "float32", "bfloat16"):
            raise ConfigError(
                "distill.precision",
                "must be auto, float32 or bfloat16",
                got=self.precision,
                hint="choose one of these",
            )

    @property
    def batches(self) -> int:
        """How many batches the images need; what is left over of the last one is dropped."""
        return -(-self.images // self.batch)
