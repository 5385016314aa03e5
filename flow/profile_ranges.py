"""Profiles of a float model on images, range by range, by several workers."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from flow.cache.modules import UnknownModuleError, packed, unpacked
from flow.data.datasets import Dataset
from flow.image_ranges import checked, ranges_of
from flow.kept_pictures import Pictures
from flow.parallel.run import run_all
from flow.parallel.shared import Shared
from flow.system.threads import blas_threads
from relay_passes.calibration.profiling import Profiler, Take, merge_profiles, profile
from relay_passes.params import TensorProfile

if TYPE_CHECKING:
    from flow.worker_request import Workers
    from relay_passes.graph import Module


def profiles_of(
    mod: Module,
    images: Iterable[NDArray[np.float32]],
    workers: Workers,
    progress: Callable[[int], None] | None = None,
    *,
    keep: Collection[str] = (),
    take: Take | None = None,
) -> Mapping[str, TensorProfile]:
    """Return every tensor's profile, from several workers where these can read the images, too.

    Then `take` is never called: whoever wants its tensors computes them.

    Raises
    ------
    CalibrationError
        As `relay_passes.calibration.profiling.profile`.
    """
    data = images.as_data() if isinstance(images, Pictures) else images
    if isinstance(data, Dataset):
        found = profile_elsewhere(mod, data, workers, progress)
        if found is not None:
            return found
    return profile(mod, images, progress=progress, keep=keep, take=take)


def profile_elsewhere(
    mod: Module,
    data: Dataset,
    workers: Workers,
    progress: Callable[[int], None] | None = None,
) -> Mapping[str, TensorProfile] | None:
    """Return every tensor's profile, exactly as `relay_passes.calibration.profiling.profile`.

    Parameters
    ----------
    mod : IRModule
        Float module, folded and named.
    data : Dataset
        Calibration images.
    workers : Workers
        On this machine processes: half of the work is Python's.
    progress : callable (count), optional
        Told after each range.

    Returns
    -------
    mapping of str to TensorProfile, or None
        None where this process must do it: the module has parts that are not written, or one range
        is all.

    Raises
    ------
    CalibrationError
        When an image has another shape, or a tensor holds NaN or infinity.
    """
    ranges = ranges_of(range(len(data)))
    if not workers.several or len(ranges) < 2:
        return None
    try:
        sent = packed(mod)
    except UnknownModuleError:
        return None

    def told(done: int, total: int, note: str = "", /) -> None:
        if progress is not None:
            progress(min(done * len(ranges[0]), len(data)))

    function = partial(_profiles_of, Shared.of(sent), Shared.of(data))
    parts = run_all(function, ranges, jobs=workers.jobs, cluster=workers.cluster, progress=told)
    return merge_profiles(list(parts))


def _profiles_of(sent: Shared, data: Shared, places: tuple[int, ...]) -> dict[str, TensorProfile]:
    """Profile a range of images."""
    profiler, images = sent.opened(_profiler), data.opened(checked)
    with blas_threads(1):  # one thread gives the same bits anywhere
        return profiler.run((images[place] for place in places), first=places[0])


def _profiler(sent: Mapping[str, NDArray[Any]]) -> Profiler:
    return Profiler(unpacked(sent))
