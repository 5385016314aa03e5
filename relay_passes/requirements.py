"""What choosers, rounders and passes require, said by themselves."""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

#: ``profiles``: of the float module's tensors. ``moments``: of the layers' inputs on calibration
#: images, after the passes. ``images``: to profile anew, since a pass changes values inside.
#: ``pictures``: calibration images themselves, for a learner, which needs PyTorch.
#: ``shr_register``: a machine with this capability; without, layers stay on the host.
Need: TypeAlias = Literal["profiles", "moments", "images", "pictures", "shr_register"]

NOTHING: Final[frozenset[Need]] = frozenset()
PROFILES: Final[frozenset[Need]] = frozenset({"profiles"})
MOMENTS: Final[frozenset[Need]] = frozenset({"moments"})
IMAGES: Final[frozenset[Need]] = frozenset({"images"})
PICTURES: Final[frozenset[Need]] = frozenset({"pictures"})
SHR_REGISTER: Final[frozenset[Need]] = frozenset({"shr_register"})
#: The needs that a machine meets.
CAPABILITIES: Final = SHR_REGISTER
