"""Images kept as float tensors in numpy's files: ``.npy``, and ``.npz`` of any number of arrays.

A tensor is a network's input as it is, in the network's own input space: no preprocessing. An array
is one image [C, H, W], or several [N, C, H, W]; of a network with another input one tensor of its
shape, or several. Where the network's file has channels last, arrays may have them last, too.

Of a network with several inputs an image is in one ``.npz``, which has an array for each input, by
the input's name; so may several be, the same number in each array.
"""

from __future__ import annotations

import io
import math
import threading
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from flow.data.pictures import file_problem
from flow.frontend.inputs import ModelInput
from vta_config.errors import CalibrationError

TENSOR_SUFFIXES: Final = frozenset({".npy", ".npz"})
#: Larger arrays are not read: all of one is in memory while its images are used.
MAX_ARRAY_BYTES: Final = 1 << 30
#: Arrays that are looked at in one ``.npz``.
MAX_MEMBERS: Final = 1 << 16
_ARRAY: Final = ".npy"
_TO_CHANNELS_FIRST: Final = (0, 3, 1, 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredArray:
    """One array of floats in a file.

    Parameters
    ----------
    path : Path
        The file.
    member : str
        Its name inside of a ``.npz``; "" in a ``.npy``.
    images : int
        Number of images in it.
    channels_last : bool
        Whether its images are [H, W, C].
    """

    path: Path
    member: str
    images: int
    channels_last: bool = False

    @property
    def where(self) -> str:
        """What errors call it."""
        return f"{self.path}, {self.member}" if self.member else str(self.path)


def stored_arrays(
    path: Path, shape: Sequence[int], file_shape: Sequence[int] | None = None
) -> tuple[StoredArray, ...]:
    """List the arrays of a file, sorted by name, by their headers alone.

    Parameters
    ----------
    path : Path
        A ``.npy`` or ``.npz`` file.
    shape : tuple of int
        The network's input, as (1, C, H, W).
    file_shape : tuple of int, optional
        The same as the network's file has it, where that has channels last: (1, H, W, C).

    Raises
    ------
    CalibrationError
        When the file is damaged, or holds something else than floats of this shape.
    """
    if (problem := file_problem(path)) is not None:
        raise _unreadable(str(path), problem)
    shapes = [tuple(shape)]
    if file_shape is not None and tuple(file_shape) != tuple(shape):
        shapes.insert(0, tuple(file_shape))
    try:
        with path.open("rb") as file:
            if path.suffix.lower() != ".npz":
                size = path.stat().st_size
                return (_checked(StoredArray(path=path, member="", images=0), file, size, shapes),)
            with zipfile.ZipFile(file) as archive:
                return _members(path, archive, shapes)
    except CalibrationError:
        raise
    # Damaged files leave numpy and zipfile by exceptions of many kinds.
    except Exception as error:
        raise _unreadable(str(path), _reason(error)) from None


def stored_inputs(path: Path, inputs: Sequence[ModelInput]) -> tuple[StoredArray, ...]:
    """List the arrays of a file with images of several inputs: one for each input, in their order.

    Raises
    ------
    CalibrationError
        When the file is damaged, lacks an input, has another array, or an array does not fit.
    """
    names = [value.name for value in inputs]

    def other(got: str) -> CalibrationError:
        return CalibrationError(
            str(path),
            f"must be a .npz file with one array for each input: {', '.join(names)}",
            got=got,
            hint="write it with numpy.savez, the arrays called as the model's inputs",
        )

    if path.suffix.lower() != ".npz":
        raise other(f"a {path.suffix} file" if path.suffix else "another file")
    found: dict[str, StoredArray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            members = {info.filename.removesuffix(_ARRAY): info for info in archive.infolist()}
            if members.keys() != set(names):
                raise other(", ".join(members) or "no array")
            for value in inputs:
                info = members[value.name]
                array = StoredArray(path=path, member=info.filename, images=0)
                shapes = list(dict.fromkeys((value.file_shape, value.shape)))
                with archive.open(info) as file:
                    found[value.name] = _checked(array, file, info.file_size, shapes)
    except CalibrationError:
        raise
    except Exception as error:  # as above
        raise _unreadable(str(path), file_problem(path) or _reason(error)) from None
    counts = {array.images for array in found.values()}
    if len(counts) > 1:
        raise CalibrationError(
            str(path),
            "must have as many images in each array",
            got=", ".join(f"{array.images:,} in {name}" for name, array in found.items()),
            hint="save one row of each array for an image",
        )
    return tuple(found.values())


def _members(
    path: Path, archive: zipfile.ZipFile, shapes: Sequence[tuple[int, ...]]
) -> tuple[StoredArray, ...]:
    """List the arrays of an archive."""
    infos = [info for info in archive.infolist() if not info.is_dir()]
    if len(infos) > MAX_MEMBERS:
        raise CalibrationError(
            str(path),
            f"must hold at most {MAX_MEMBERS:,} arrays",
            got=f"{len(infos):,}",
            hint="put several images into one array [N, C, H, W]",
        )
    found = []
    for info in sorted(infos, key=lambda info: info.filename):
        array = StoredArray(path=path, member=info.filename, images=0)
        if not info.filename.endswith(_ARRAY):
            raise CalibrationError(
                array.where,
                "must be an array of a .npz file",
                got="another file in the archive",
                hint="write the archive with numpy.savez",
            )
        with archive.open(info) as file:
            found.append(_checked(array, file, info.file_size, shapes))
    return tuple(found)


def _checked(
    array: StoredArray, file: IO[bytes], file_bytes: int, shapes: Sequence[tuple[int, ...]]
) -> StoredArray:
    """Read the header of an array and return the array with its number of images."""
    found, kind = _header(file)
    wanted = [[int(n) for n in shape[1:]] for shape in shapes]
    own = next((w for w in wanted if list(found) == w or list(found[1:]) == w), None)
    if kind.kind != "f":
        raise CalibrationError(
            array.where,
            "must hold floats, the network's input after preprocessing",
            got=kind,
            hint="preprocess the images and save them as float32, or give pictures",
        )
    if own is None:
        dims = ", ".join(map(str, wanted[0]))
        raise CalibrationError(
            array.where,
            f"must have the shape [{dims}] of the model's input, or [N, {dims}]",
            got=list(found),
            hint="save the images as the network takes them",
        )
    array_bytes = math.prod(found) * kind.itemsize
    if array_bytes > MAX_ARRAY_BYTES:
        raise CalibrationError(
            array.where,
            f"must have at most {MAX_ARRAY_BYTES:,} bytes",
            got=f"{array_bytes:,}",
            hint="save fewer images in one array",
        )
    if file_bytes - file.tell() < array_bytes:
        raise _unreadable(array.where, "truncated")
    return StoredArray(
        path=array.path,
        member=array.member,
        images=1 if list(found) == own else found[0],
        channels_last=len(shapes) > 1 and own is wanted[0],
    )


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Read the header of a ``.npy`` file; return the shape and the type of the numbers."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, _, kind = np.lib.format.read_array_header_1_0(file)
    else:  # later ones differ in the names of structures, which are no floats
        shape, _, kind = np.lib.format.read_array_header_2_0(file)
    return tuple(shape), kind


def _load(array: StoredArray, rank: int) -> NDArray[np.float32]:
    """Read an array, float32[N, C, H, W] of `rank` 4; its values may be anything."""
    try:
        if not array.member:
            values = np.load(io.BytesIO(array.path.read_bytes()), allow_pickle=False)
        else:
            with zipfile.ZipFile(array.path) as archive:
                data = io.BytesIO(archive.read(array.member))
            values = np.load(data, allow_pickle=False)
        with np.errstate(over="ignore"):
            values = np.ascontiguousarray(values, dtype=np.float32)
    except Exception as error:  # changed since its header was read, or damaged
        raise _unreadable(array.where, _reason(error)) from None
    if values.ndim < rank:
        values = values[np.newaxis]
    if array.channels_last and values.ndim == len(_TO_CHANNELS_FIRST):
        values = np.ascontiguousarray(values.transpose(_TO_CHANNELS_FIRST))
    return values


def _reason(error: Exception) -> str:
    return f"truncated or damaged ({error or type(error).__name__})"


def _unreadable(where: str, problem: str) -> CalibrationError:
    return CalibrationError(
        where, "must be an array of numpy", got=problem, hint="replace or remove it"
    )


@dataclass(slots=True)
class TensorSource:
    """Images out of arrays on disk; the array that was read last is kept.

    Parameters
    ----------
    arrays : tuple of StoredArray
        The images are theirs, one array after the other.
    shape : tuple of int
        The network's input, as (1, C, H, W).
    """

    arrays: tuple[StoredArray, ...]
    shape: tuple[int, ...]
    _places: tuple[tuple[int, int], ...] = field(init=False)
    _last: tuple[int, NDArray[np.float32] | None] = field(init=False, default=(-1, None))
    _lock: threading.Lock = field(init=False, default_factory=threading.Lock)

    def __post_init__(self) -> None:
        """Give every image its place."""
        self._places = tuple(
            (position, index)
            for position, array in enumerate(self.arrays)
            for index in range(array.images)
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel to another process without the array that was read last."""
        return type(self), (self.arrays, self.shape)

    def __len__(self) -> int:
        """Count the images."""
        return len(self._places)

    def place(self, index: int) -> tuple[StoredArray, int]:
        """Return the array that image `index` is in, and its place there."""
        position, inside = self._places[index]
        return self.arrays[position], inside

    def where(self, index: int) -> str:
        """Return what errors and tables call image `index`."""
        array, inside = self.place(index)
        return array.where if array.images == 1 else f"{array.where}, image {inside}"

    def load(self, index: int) -> NDArray[np.float32]:
        """Return image `index`, float32[1, C, H, W] or of the network's other shape.

        Raises
        ------
        CalibrationError
            When its file has changed, is damaged, or holds numbers that are not finite.
        """
        position, inside = self._places[index]
        array = self.arrays[position]
        with self._lock:
            values = self._last[1]
            if values is None or self._last[0] != position:
                self._last = (-1, None)  # not beside the new one
                values = _load(array, len(self.shape))
                self._last = (position, values)
        if len(values) != array.images or values.shape[1:] != self.shape[1:]:
            raise _unreadable(array.where, "another shape than before")
        image = values[inside : inside + 1]
        if not np.isfinite(image).all():
            raise CalibrationError(
                self.where(index),
                "must hold finite float32 numbers",
                got=f"{np.count_nonzero(~np.isfinite(image)):,} that are not",
                hint="remove the image, or correct what wrote it",
            )
        return np.array(image)


@dataclass(slots=True)
class RowSource:
    """Images of several inputs: each is a row of numbers, one input after the other.

    Parameters
    ----------
    sources : tuple of TensorSource
        One for each input.
    """

    sources: tuple[TensorSource, ...]

    @property
    def arrays(self) -> tuple[StoredArray, ...]:
        """Return the arrays of the first input, as many as files."""
        return self.sources[0].arrays

    def __len__(self) -> int:
        """Count the images."""
        return len(self.sources[0])

    def where(self, index: int) -> str:
        """Return what errors and tables call image `index`."""
        array, inside = self.sources[0].place(index)
        return str(array.path) if array.images == 1 else f"{array.path}, image {inside}"

    def load(self, index: int) -> NDArray[np.float32]:
        """Return image `index`, float32[1, values]; errors as of `TensorSource`."""
        parts = [source.load(index).reshape(1, -1) for source in self.sources]
        return np.concatenate(parts, axis=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class RandomTensors:
    """Normally distributed tensors, which stand for images where there are none.

    Parameters
    ----------
    shape : tuple of int
        The network's input.
    count : int
        How many there are.
    """

    shape: tuple[int, ...]
    count: int

    def __len__(self) -> int:
        """Count the tensors."""
        return self.count

    def where(self, index: int) -> str:
        """Return what errors and tables call tensor `index`."""
        return f"random tensor {index}"

    def load(self, index: int) -> NDArray[np.float32]:
        """Return tensor `index`, always the same."""
        return np.random.default_rng(index).normal(size=self.shape).astype(np.float32)
