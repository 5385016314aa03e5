"""Calibration images from a network alone: distilled batch by batch, and kept in a folder.

`relay_passes.calibration.distill` makes the images; here they are written, and found again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from flow.data.datasets import Dataset
from flow.data.distilled import (
    LOSS_FILE,
    LOSS_STEM,
    SHEET_FILE,
    BatchRecord,
    Record,
    image_name,
    losses_csv,
    read_record,
    write_images,
    write_record,
)
from flow.data.labels import images_in
from flow.data.models import cache_folder
from flow.data.pictures import file_problem
from flow.data.tensors import TensorSource, stored_arrays
from flow.results.contact_sheet import MAX_TILES, contact_sheet
from flow.results.latency import can_plot
from flow.sim.plots import new_figure, save_figure
from flow.system.files import check_writable, locked, write_atomic
from relay_passes.calibration.distill import distill
from vta_config.errors import ArtifactError, CalibrationError, ConfigError

if TYPE_CHECKING:
    from flow.frontend.importer import ImportedModel
    from flow.stages import Progress, Stages
    from relay_passes.calibration.distill_options import DistillOptions

#: Part of the folder's name in the cache: raise it when the same options give other images.
VERSION: Final = 1
#: Keeps others out of the folder while images are added to it.
LOCK: Final = ".distill"
#: Option of the command line for each field of the options that changes the images.
_FLAGS: Final = {
    "batch": "--batch",
    "steps": "--steps",
    "seed": "--seed",
    "generator": "--no-generator",
    "latents": "--no-latents",
    "swing": "--no-swing",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Distilled:
    """A folder of distilled images, complete.

    Parameters
    ----------
    folder : Path
    record : Record
        What the images were made with.
    kept : int
        Number of batches that were in the folder before.
    """

    folder: Path
    record: Record
    kept: int

    def dataset(self) -> Dataset:
        """Return the images of the record, in order."""
        shape = (1, *self.record.shape)
        paths = [self.folder / name for batch in self.record.batches for name in batch.files]
        arrays = (array for path in paths for array in stored_arrays(path, shape))
        return Dataset(
            name=f"distilled from {self.record.model}",
            source=TensorSource(tuple(arrays), shape),
            preprocessing=None,
        )


def distill_into(
    folder: Path,
    model: ImportedModel,
    options: DistillOptions,
    stages: Stages,
    *,
    told: Callable[[str], None] = lambda line: None,
    hint: str = "choose another --output",
) -> Distilled:
    """Distill images of a model into a folder, from the first batch that is not there.

    Parameters
    ----------
    folder : Path
        Made if missing.
    model : ImportedModel
    options : DistillOptions
    stages : Stages
        Measures and shows.
    told : callable (line)
        Called with a line for people about each batch.
    hint : str
        What to do where the folder cannot be used.

    Raises
    ------
    ConfigError
        When the folder holds images of another model or other options, or PyTorch is missing.
    CalibrationError
        When the folder holds other images, or a record that cannot be read.
    UnsupportedModelError
        When the model has no BatchNorm statistics to distill from.
    ArtifactError
        When the folder cannot be written.
    """
    check_writable(folder, hint=hint)
    try:
        with locked(folder / LOCK):
            return _distill(folder, model, options, stages, told)
    except OSError as error:
        raise ArtifactError(
            str(folder),
            "must be a folder that can be written to",
            got=error.strerror or str(error),
            hint=hint,
        ) from None


def _distill(
    folder: Path,
    model: ImportedModel,
    options: DistillOptions,
    stages: Stages,
    told: Callable[[str], None],
) -> Distilled:
    """Do what `distill_into` says, alone in the folder."""
    record = Record(
        model=model.name,
        sha256=model.sha256,
        shape=model.input_shape[1:],
        options={name: getattr(options, name) for name in _FLAGS},
    )
    record = _continued(folder, record, options.images)
    kept = len(record.batches)
    for batch in record.batches:
        told(f"batch {batch.number + 1}/{options.batches}: {batch.images} images, made before")
    if kept < options.batches:
        done = {batch.number for batch in record.batches}
        for batch, images in _batches(model, options, done, stages):
            write_images(folder, images, batch.first)
            batches = sorted((*record.batches, batch), key=lambda batch: batch.number)
            record = replace(record, batches=tuple(batches))
            write_record(folder, record)
            told(f"batch {batch.number + 1}/{options.batches}: {_told(batch)}")
    return Distilled(folder=folder, record=record, kept=kept)


def _batches(
    model: ImportedModel, options: DistillOptions, done: Collection[int], stages: Stages
) -> Iterator[tuple[BatchRecord, NDArray[np.float32]]]:
    """Yield the batches that are not done, each made in a stage of its own, and their images."""
    shown: list[Progress] = []
    batches = distill(model.mod, options, done=done, progress=lambda *how_far: shown[-1](*how_far))
    while True:
        begin = time.perf_counter()
        with stages("distill", f"distilling {options.images:,} images") as progress:
            shown.append(progress)
            made = next(batches, None)
        if made is None:
            return
        batch = BatchRecord(
            number=made.number,
            first=made.number * options.batch,
            images=len(made.images),
            losses=tuple(float(x) for x in made.losses),
            seconds=round(time.perf_counter() - begin, 3),
        )
        yield batch, made.images


def _told(batch: BatchRecord) -> str:
    loss = f", loss {batch.losses[0]:.4g} to {batch.losses[-1]:.4g}" if batch.losses else ""
    return f"{batch.images} images in {batch.seconds:.1f} s{loss}"


def _continued(folder: Path, wanted: Record, images: int) -> Record:
    """Return the record of the folder with its complete batches, where it fits what is wanted."""
    found = read_record(folder)
    if found is None:
        others = [path for path in images_in(folder) if not _left_over(path)]
        if others:
            raise CalibrationError(
                str(folder),
                "must hold no other images",
                got=f"{others[0].relative_to(folder)}",
                hint="choose another --output",
            )
        return wanted
    if found.sha256 != wanted.sha256:
        raise ConfigError(
            str(folder),
            f"must hold images of the same model, {wanted.model} (sha256 {wanted.sha256[:12]})",
            got=f"{found.model} (sha256 {found.sha256[:12]})",
            hint="choose another --output",
        )
    for name, flag in _FLAGS.items():
        before, now = found.options.get(name), wanted.options[name]
        if before != now:
            raise ConfigError(
                str(folder),
                "must hold images made with the same options",
                got=_difference(flag, before, now),
                hint="choose another --output, or the same options to continue",
            )
    if found.images > images:
        raise ConfigError(
            "--images",
            f"must be at least {found.images:,}, the number of images in {folder}",
            got=images,
            hint="choose another --output",
        )
    size = int(wanted.options["batch"])
    whole = {
        batch.number: batch
        for batch in found.batches
        if batch.first == size * batch.number
        and batch.images == min(size, images - batch.first)
        and _whole(folder, wanted, batch)
    }
    return replace(wanted, batches=tuple(whole[number] for number in sorted(whole)))


def _left_over(path: Path) -> bool:
    """Tell whether a file may be an image of a run that was stopped in its first batch."""
    stem = path.name.removeprefix("image-").removesuffix(".npy")
    return stem.isdecimal() and path.name == image_name(int(stem))


def _difference(flag: str, before: Any, now: Any) -> str:
    if flag.startswith("--no-"):
        return f"{'no ' if before else ''}{flag} before and {'no ' if now else ''}{flag} now"
    return f"{flag} {before} before and {now} now"


def _whole(folder: Path, record: Record, batch: BatchRecord) -> bool:
    """Tell whether all images of a batch are there."""
    try:
        for name in batch.files:
            if file_problem(folder / name) is not None:
                return False
            stored_arrays(folder / name, (1, *record.shape))
    except CalibrationError:
        return False
    return True


def distilled_images(
    model: ImportedModel, options: DistillOptions, stages: Stages, *, cache: Path | None = None
) -> Dataset:
    """Return distilled images, out of the cache where they were made before.

    Raises
    ------
    FlowError
        See `distill_into`.
    """
    facts = repr((VERSION, model.sha256, options.images, [getattr(options, n) for n in _FLAGS]))
    folder = cache_folder(cache) / "distilled" / sha256(facts.encode()).hexdigest()[:24]
    return distill_into(folder, model, options, stages, hint="choose another --cache").dataset()


# ---- to look at ----------------------------------------------------------------------------------
def draw(distilled: Distilled) -> tuple[Path, ...]:
    """Write the contact sheet, the losses as CSV and, with matplotlib, their plot.

    Raises
    ------
    ArtifactError
        When a file cannot be written.
    """
    folder, record = distilled.folder, distilled.record
    data = distilled.dataset()
    images = [data[i][0] for i in range(min(len(data), MAX_TILES))]
    written = [
        write_atomic(folder / SHEET_FILE, contact_sheet(images)),
        write_atomic(folder / LOSS_FILE, losses_csv(record.batches).encode()),
    ]
    curves = [batch.losses for batch in record.batches if batch.losses]
    if can_plot() and curves:
        figure, axes = new_figure(7, 4)
        for batch in record.batches:
            steps = np.arange(1, len(batch.losses) + 1)
            axes.plot(steps, batch.losses, lw=0.8, label=f"batch {batch.number + 1}")
        axes.set_xlabel("step")
        axes.set_ylabel("BatchNorm statistics loss")
        if all(loss > 0 for losses in curves for loss in losses):
            axes.set_yscale("log")
        axes.grid(alpha=0.3)
        if len(curves) <= 10:
            axes.legend(frameon=False)
        written += save_figure(figure, folder / LOSS_STEM, ("png",))
    return tuple(written)
