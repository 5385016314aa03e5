"""A folder of distilled images: one float tensor each, and what they were made with.

The folder is read like any other folder of tensors. ``distilled.json`` is written after the images
of a batch, so the batches that it lists are complete; a run that was stopped goes on behind them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from flow.data.pictures import MISSING, file_problem
from flow.system.files import write_atomic
from vta_config.errors import CalibrationError
from vta_config.files import read_bounded

RECORD_FILE: Final = "distilled.json"
SHEET_FILE: Final = "contact-sheet.png"
LOSS_FILE: Final = "losses.csv"
LOSS_STEM: Final = "losses"
#: Pictures that lie beside the images and are not images themselves.
_OWN_PICTURES: Final = frozenset({SHEET_FILE, f"{LOSS_STEM}.png"})
#: Raised when a field of the record changes its meaning.
SCHEMA_VERSION: Final = 1
MAX_BYTES: Final = 1 << 26


def own_picture(path: Path) -> bool:
    """Tell whether a file is a contact sheet or plot beside distilled images."""
    return path.name in _OWN_PICTURES and (path.parent / RECORD_FILE).is_file()


def image_name(index: int) -> str:
    """Return the file name of an image."""
    return f"image-{index:05}.npy"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchRecord:
    """One batch in the folder.

    Parameters
    ----------
    number : int
        From 0.
    first : int
        Index of its first image.
    images : int
        Number of images.
    losses : tuple of float
        Before each step.
    seconds : float
        Time that it took.
    """

    number: int
    first: int
    images: int
    losses: tuple[float, ...]
    seconds: float

    @property
    def files(self) -> list[str]:
        """The names of its images."""
        return [image_name(self.first + i) for i in range(self.images)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the images of a folder were made with.

    Parameters
    ----------
    model, sha256 : str
        Name of the model, and the checksum of its ``.onnx`` bytes.
    shape : tuple of int
        [C, H, W] of an image.
    options : mapping
        What changes the images: batch size, steps, seed and parts of the method.
    batches : tuple of BatchRecord
        Complete ones, in order.
    """

    model: str
    sha256: str
    shape: tuple[int, ...]
    options: Mapping[str, Any]
    batches: tuple[BatchRecord, ...] = ()

    @property
    def images(self) -> int:
        """The number of images."""
        return sum(batch.images for batch in self.batches)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        values = asdict(self) | {"schema_version": SCHEMA_VERSION, "images": self.images}
        return {key: values[key] for key in sorted(values, key="batches".__eq__)}


def write_images(folder: Path, images: NDArray[np.float32], first: int) -> None:
    """Write images float32[N, C, H, W] to a file each, numbered from `first`.

    Raises
    ------
    ArtifactError
        When a file cannot be written.
    """
    for index, image in enumerate(images, start=first):
        data = io.BytesIO()
        np.save(data, np.ascontiguousarray(image, np.float32))
        write_atomic(folder / image_name(index), data.getvalue())


def write_record(folder: Path, record: Record) -> Path:
    """Write ``distilled.json``.

    Raises
    ------
    ArtifactError
        When it cannot be written.
    """
    text = json.dumps(record.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return write_atomic(folder / RECORD_FILE, text.encode(errors="backslashreplace"))


def read_record(folder: Path) -> Record | None:
    """Read ``distilled.json``; None where there is none.

    Raises
    ------
    CalibrationError
        When it is not what was written.
    """
    path = folder / RECORD_FILE
    if file_problem(path) == MISSING:
        return None
    try:
        values = json.loads(read_bounded(path, MAX_BYTES).decode("utf-8"))
        if values["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"version {values['schema_version']}")
        return Record(
            model=str(values["model"]),
            sha256=str(values["sha256"]),
            shape=tuple(int(n) for n in values["shape"]),
            options=dict(values["options"]),
            batches=tuple(
                BatchRecord(
                    number=int(batch["number"]),
                    first=int(batch["first"]),
                    images=int(batch["images"]),
                    losses=tuple(float(x) for x in batch["losses"]),
                    seconds=float(batch["seconds"]),
                )
                for batch in values["batches"]
            ),
        )
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise CalibrationError(
            str(path),
            "must be what vta-flow distill wrote",
            got=f"{type(error).__name__} ({error})",
            hint="remove the folder, or choose another --output",
        ) from None


def losses_csv(batches: Sequence[BatchRecord]) -> str:
    """Return the losses as CSV: batch and step, both from 1, and the loss before the step."""
    rows = (
        f"{batch.number + 1},{step},{loss:.6g}\n"
        for batch in batches
        for step, loss in enumerate(batch.losses, start=1)
    )
    return "batch,step,loss\n" + "".join(rows)
