"""Images for calibration and evaluation: folders of pictures or tensors, and images in memory.

An image is a picture, which is preprocessed, or a float tensor, which is the network's input as it
is (`flow.data.tensors`). A `Dataset` streams: an image is decoded and preprocessed when it is asked
for, so 1,150 ImageNet images never lie in memory together. Images always come in index order (the
order of ``labels.csv``, else of the sorted file names).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flow.data.distilled import own_picture
from flow.data.kept_pixels import KeptPixels
from flow.data.labels import (
    IMAGE_SUFFIXES,
    LABELS_FILE,
    LIST_SUFFIXES,
    images_in,
    read_class_folders,
    read_labels,
    read_list,
)
from flow.data.pictures import FOLDER, MISSING, eight_bits, file_problem, read_picture
from flow.data.tensors import (
    TENSOR_SUFFIXES,
    RandomTensors,
    RowSource,
    TensorSource,
    stored_arrays,
    stored_inputs,
)
from flow.frontend.inputs import ModelInput
from flow.input_request import InputRequest
from vta_config.errors import CalibrationError, ConfigError
from vta_config.text import printable

IMAGENET_MEAN: Final = (0.485, 0.456, 0.406)
IMAGENET_STD: Final = (0.229, 0.224, 0.225)
#: Channels that pictures can have: grey, or red, green and blue.
PICTURE_CHANNELS: Final = (1, 3)
#: A resized image above so many pixels is not made as a whole.
LARGEST_RESIZED: Final = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """Turn an image into a network's input: resize, centre crop, (x · scale - mean) / std.

    Resizing is bilinear over the source pixels that an output pixel covers (Pillow's `BILINEAR`),
    rounding of the long side and of the crop's corner as in torchvision, which the ImageNet models
    were evaluated with.

    Parameters
    ----------
    height, width : int
        Size of the crop in pixels.
    resize : int or (int, int)
        Before the crop: length of the short side, or height and width, in pixels.
    channels : int
        3 (RGB) or 1 (grey).
    mean, std : tuple of float
        Of each channel, after scaling: by default in units of the full range (0 to 1).
    scale : float
        What pixels of 0 to 255 are multiplied by.
    """

    height: int
    width: int
    resize: int | tuple[int, int]
    channels: int = 3
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    scale: float = 1 / 255

    @classmethod
    def for_input(
        cls,
        shape: Sequence[int],
        *,
        ratio: float = 256 / 224,
        request: InputRequest | None = None,
    ) -> Preprocessing:
        """Derive the ImageNet recipe for inputs [N, C, H, W]: crop out of a `ratio` larger image.

        What `request` says takes its place: where it names a mean, a standard deviation or a scale,
        the others of the three are 0, 1 and 1/255.

        Raises
        ------
        CalibrationError
            When the input is not an image of 1 or 3 channels.
        ConfigError
            When there are other numbers of means or standard deviations than channels.
        """
        request = request or InputRequest()
        if len(shape) != 4 or shape[1] not in PICTURE_CHANNELS:
            raise CalibrationError(
                "model input",
                "must have shape [N, 1 or 3, H, W] for images",
                got=list(shape),
                hint="export the model with an NCHW image input, or give images as .npy files",
            )
        channels, height, width = int(shape[1]), int(shape[2]), int(shape[3])
        grey = channels == 1
        mean: tuple[float, ...] = IMAGENET_MEAN
        std: tuple[float, ...] = IMAGENET_STD
        if grey:
            mean, std = (sum(IMAGENET_MEAN) / 3,), (sum(IMAGENET_STD) / 3,)
        if (request.mean, request.std, request.scale) != (None, None, None):
            mean = _for_channels("--mean", request.mean or (0.0,), channels)
            std = _for_channels("--std", request.std or (1.0,), channels)
        resize: int | tuple[int, int] = round(max(height, width) * ratio)
        if request.crop == "none":
            resize = height, width
        elif request.resize is not None:
            sizes = request.resize
            resize = sizes[0] if len(sizes) == 1 else (sizes[0], sizes[1])
        return cls(
            height=height,
            width=width,
            resize=resize,
            channels=channels,
            mean=mean,
            std=std,
            scale=1 / 255 if request.scale is None else request.scale,
        )

    def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """Resize and crop `image`; return uint8[height, width, channels].

        Raises
        ------
        CalibrationError
            When `image` has no 8-bit form (`flow.data.pictures.eight_bits`).
        """
        image = eight_bits(image, "image")
        mode = "L" if self.channels == 1 else "RGB"
        if image.mode != mode:
            image = image.convert(mode)
        width, height = image.size
        if isinstance(self.resize, int):
            short = min(width, height)
            size = (int(self.resize * width / short), int(self.resize * height / short))
        else:
            size = self.resize[1], self.resize[0]
        left, top = round((size[0] - self.width) / 2), round((size[1] - self.height) / 2)
        crop = (left, top, left + self.width, top + self.height)
        if math.prod(size) > LARGEST_RESIZED:
            image, crop = _resize_part(image, size, crop)
        elif size != (width, height):
            image = image.resize(size, Image.Resampling.BILINEAR)
        image = image.crop(crop)
        return np.asarray(image, dtype=np.uint8).reshape(self.height, self.width, self.channels)

    def normalize(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Scale uint8[H, W, C] to the network's input, float32[1, C, H, W]."""
        levels = np.broadcast_to(_levels(self.mean, self.std, self.scale), (self.channels, 256))
        planes = np.empty((1, self.channels, *pixels.shape[:2]), np.float32)
        for channel, own in enumerate(levels):
            np.take(own, pixels[:, :, channel], out=planes[0, channel], mode="clip")
        return planes

    def __call__(self, image: Image.Image) -> NDArray[np.float32]:
        """Preprocess `image`; return float32[1, C, H, W]."""
        return self.normalize(self.pixels(image))


@lru_cache(maxsize=8)
def _levels(mean: tuple[float, ...], std: tuple[float, ...], scale: float) -> NDArray[np.float32]:
    """Return what each of the 256 values of a pixel becomes, float32[channels, 256]."""
    pixels = np.arange(256, dtype=np.float32)
    # 1/255 is rounded once.
    values = pixels / np.float32(255) if scale == 1 / 255 else pixels * np.float32(scale)
    means, stds = (np.array(x, np.float32)[:, np.newaxis] for x in (mean, std))
    return np.asarray((values - means) / stds, np.float32)


def _for_channels(option: str, given: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """Return a number for each channel.

    Raises
    ------
    ConfigError
        When there are others than one, or one for each.
    """
    if len(given) not in (1, channels):
        raise ConfigError(
            option,
            f"must be one number, or one for each of {channels} channels",
            got=list(given),
            hint="give as many as the model's input has",
        )
    return given * (channels // len(given))


def _resize_part(
    image: Image.Image, size: tuple[int, int], region: tuple[int, int, int, int]
) -> tuple[Image.Image, tuple[int, int, int, int]]:
    """Resize the part of `image` that `region` of the resized image needs.

    An image of 1 × 65,000 pixels would be resized to 256 × 16,640,000 only to be cropped. Pixels
    differ from those of the whole by the rounding of coordinates: by 1 at most.

    Parameters
    ----------
    image : Image
        The image.
    size : (int, int)
        Width and height of the whole, resized.
    region : (int, int, int, int)
        Left, top, right and bottom in the resized image; may reach beyond it.

    Returns
    -------
    Image, (int, int, int, int)
        The resized part, and `region` in its coordinates.
    """
    first, last, box_first, box_last = [], [], [], []
    starts = [max(0, region[axis]) for axis in (0, 1)]
    stops = [min(size[axis], region[axis + 2]) for axis in (0, 1)]
    for axis in (0, 1):
        scale = image.size[axis] / size[axis]
        reach = math.ceil(max(scale, 1.0)) + 1  # source pixels that the filter looks at
        lo, hi = starts[axis] * scale, stops[axis] * scale
        first.append(max(0, math.floor(lo) - reach))
        last.append(min(image.size[axis], math.ceil(hi) + reach))
        box_first.append(lo - first[axis])
        box_last.append(hi - first[axis])
    part = image.crop((first[0], first[1], last[0], last[1])).resize(
        (stops[0] - starts[0], stops[1] - starts[1]),
        Image.Resampling.BILINEAR,
        box=(box_first[0], box_first[1], box_last[0], box_last[1]),
    )
    left, top, right, bottom = region
    return part, (left - starts[0], top - starts[1], right - starts[0], bottom - starts[1])


class ImageSource(Protocol):
    """Images by index; `load` may be called from several threads."""

    def __len__(self) -> int:
        """Count the images."""
        ...

    def load(self, index: int) -> Image.Image:
        """Decode image `index`."""
        ...

    def where(self, index: int) -> str:
        """Return what tables call image `index`."""
        ...


@dataclass(frozen=True, slots=True)
class FileSource:
    """Picture files on disk."""

    paths: tuple[Path, ...]

    def where(self, index: int) -> str:
        """Return what tables call image `index`."""
        return str(self.paths[index])

    def __len__(self) -> int:
        """Count the files."""
        return len(self.paths)

    def load(self, index: int) -> Image.Image:
        """Decode file `index`.

        Raises
        ------
        CalibrationError
            When the file is not a readable image.
        """
        return read_picture(self.paths[index])


@dataclass(frozen=True, slots=True)
class ArraySource:
    """Images in memory: grey, uint8[N, H, W], or red, green and blue, uint8[N, H, W, 3]."""

    images: NDArray[np.uint8]

    def where(self, index: int) -> str:
        """Return what tables call image `index`."""
        return f"image {index}"

    def __len__(self) -> int:
        """Count the images."""
        return len(self.images)

    def load(self, index: int) -> Image.Image:
        """Wrap image `index`."""
        return Image.fromarray(self.images[index])


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A sequence of preprocessed images, with labels when they are known.

    Parameters
    ----------
    name : str
        What the report calls it.
    source : ImageSource, TensorSource, RowSource or RandomTensors
        Where the images come from.
    preprocessing : Preprocessing, optional
        How pictures become inputs; None for tensors, which are inputs.
    labels : int64[len(source)], optional
        Class of every image of `source`.
    indices : tuple of int, optional
        The images of `source` to use, ascending; all by default.
    kept : KeptPixels, optional
        Keeps pictures of `source` once they are decoded.
    """

    name: str
    source: ImageSource | TensorSource | RowSource | RandomTensors
    preprocessing: Preprocessing | None
    labels: NDArray[np.int64] | None = None
    indices: tuple[int, ...] | None = None
    kept: KeptPixels | None = field(default=None, compare=False, repr=False)

    def _index(self, position: int) -> int:
        return range(len(self.source))[position] if self.indices is None else self.indices[position]

    def __len__(self) -> int:
        """Count the images."""
        return len(self.source) if self.indices is None else len(self.indices)

    def __getitem__(self, position: int) -> NDArray[np.float32]:
        """Decode and preprocess one image; return float32[1, C, H, W]."""
        index = self._index(position)
        if self.kept is not None:
            assert self.preprocessing is not None, "pictures need it"
            return self.preprocessing.normalize(self.kept.get(index, lambda: self._pixels(index)))
        loaded = self.source.load(index)
        if isinstance(loaded, np.ndarray):
            return loaded
        assert self.preprocessing is not None, "pictures need it"
        return self.preprocessing(loaded)

    def _pixels(self, index: int) -> NDArray[np.uint8]:
        """Decode, resize and crop picture `index` of the source."""
        loaded = self.source.load(index)
        assert self.preprocessing is not None and isinstance(loaded, Image.Image)
        return self.preprocessing.pixels(loaded)

    def keeping_pixels(self) -> Dataset:
        """Return the same images; of files of pictures, the first decoded ones are kept."""
        if not isinstance(self.source, FileSource):
            return self
        return replace(self, kept=KeptPixels())

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        """Yield the images in index order, one at a time."""
        for position in range(len(self)):
            yield self[position]

    @property
    def targets(self) -> NDArray[np.int64] | None:
        """Labels of the images in use, int64[len(self)], or None."""
        if self.labels is None or self.indices is None:
            return self.labels
        return self.labels[np.asarray(self.indices, dtype=np.int64)]

    def at(self, positions: Sequence[int]) -> Dataset:
        """Keep the images at `positions`, ascending."""
        return replace(self, indices=tuple(self._index(position) for position in positions))

    def take(self, limit: int | None, *, seed: int = 0) -> Dataset:
        """Keep at most `limit` images, drawn at random by `seed`, still in index order.

        Raises
        ------
        CalibrationError
            When `limit` is not positive.
        """
        if limit is None or limit >= len(self):
            return self
        if limit < 1:
            raise CalibrationError(
                self.name, "must keep at least 1 image", got=limit, hint="raise --limit"
            )
        chosen = np.sort(np.random.default_rng(seed).choice(len(self), size=limit, replace=False))
        return replace(self, indices=tuple(self._index(int(position)) for position in chosen))


def random_images(shape: Sequence[int], count: int) -> Dataset:
    """Return normally distributed tensors in place of images.

    Parameters
    ----------
    shape : sequence of int
        The network's input, as (1, C, H, W).
    count : int
        How many.
    """
    source = RandomTensors(shape=tuple(shape), count=count)
    return Dataset(name=f"{count} random tensors", source=source, preprocessing=None)


# ---- folders ------------------------------------------------------------------------------------
def image_folder(
    directory: str | Path,
    preprocessing: Preprocessing | None,
    *,
    shape: Sequence[int] | None = None,
    file_shape: Sequence[int] | None = None,
    inputs: Sequence[ModelInput] = (),
    classes: int | None = None,
    labelled: bool = True,
) -> Dataset:
    """Open a folder of images: of pictures, or of float tensors.

    With ``labels.csv`` (``filename,label_index``) the images are its rows, whatever else is there.
    Without it and with sub-folders, every sub-folder is a class: its name is the class index when
    all names are integers, else its place in sorted order. A flat folder has no labels. In place of
    a folder, a text file may list images, one per line, each with its class behind it or none.

    Parameters
    ----------
    directory : path
        The folder.
    preprocessing : Preprocessing, optional
        How pictures become inputs; None where the network takes none.
    shape : tuple of int, optional
        The network's input, as (1, C, H, W), which tensors must have; by default what
        `preprocessing` makes.
    file_shape : tuple of int, optional
        The same as the network's file has it, where that has channels last.
    inputs : sequence of ModelInput
        Of a network with several inputs, in place of the shapes.
    classes : int, optional
        Number of outputs of the network; labels must be below.
    labelled : bool
        False for calibration: labels are neither read nor checked. Without ``labels.csv`` every
        image below the folder counts.

    Raises
    ------
    CalibrationError
        When the folder is missing or empty or mixes pictures and tensors, a tensor does not fit,
        or the labels do not match images or network.
    """
    root = Path(directory)
    problem = file_problem(root)
    is_list = problem is None and root.suffix.lower() in LIST_SUFFIXES
    if problem != FOLDER and not is_list:
        raise CalibrationError(
            str(root),
            "must be a folder of images, or a text file (.txt) that lists them",
            got={None: "another file", MISSING: "nothing there"}.get(problem, problem),
            hint="check the path",
        )
    labels: list[int] | None = None
    if is_list:
        paths, labels = read_list(root, classes, labelled=labelled)
    elif file_problem(root / LABELS_FILE) != MISSING:
        paths, labels = read_labels(root, classes, labelled=labelled)
    elif labelled and (members := read_class_folders(root, classes)) is not None:
        paths, labels = members
    else:
        paths = images_in(root)
    if labels is None:
        paths = [path for path in paths if not own_picture(path)]
    name = os.fsencode(root.name or str(root)).decode(errors="backslashreplace")
    data = image_files(
        paths,
        preprocessing,
        shape=shape,
        file_shape=file_shape,
        inputs=inputs,
        name=printable(name),  # of any bytes: reports are UTF-8
        where=str(root),
    )
    if not len(data):
        suffixes = sorted(IMAGE_SUFFIXES | TENSOR_SUFFIXES)
        raise CalibrationError(
            str(root), "must hold images", got="none", hint=f"suffixes: {', '.join(suffixes)}"
        )
    if labels is None or not labelled:
        return data
    if isinstance(data.source, TensorSource | RowSource):
        counts = dict.fromkeys(paths, 0)
        for array in data.source.arrays:
            counts[array.path] += array.images
        labels = np.repeat(labels, [counts[path] for path in paths]).tolist()
    return replace(data, labels=np.asarray(labels, dtype=np.int64))


def image_files(
    paths: Sequence[Path],
    preprocessing: Preprocessing | None,
    *,
    shape: Sequence[int] | None = None,
    file_shape: Sequence[int] | None = None,
    inputs: Sequence[ModelInput] = (),
    name: str = "images",
    where: str = "images",
) -> Dataset:
    """Open files: pictures, or float tensors by their suffix; see `image_folder`.

    Raises
    ------
    CalibrationError
        When there are both, a tensor does not fit, or the network takes no pictures; `where` says
        what errors call the files.
    """
    if len(inputs) > 1:
        rows = [stored_inputs(path, inputs) for path in paths]
        columns = zip(zip(*rows, strict=True), inputs, strict=True) if rows else ()
        return Dataset(
            name=name,
            source=RowSource(tuple(TensorSource(own, value.shape) for own, value in columns)),
            preprocessing=None,
        )
    tensors = [path for path in paths if path.suffix.lower() in TENSOR_SUFFIXES]
    if not tensors:
        if preprocessing is None and paths:
            preprocessing = Preprocessing.for_input(shape or ())  # says why there is none
        return Dataset(name=name, source=FileSource(tuple(paths)), preprocessing=preprocessing)
    if len(tensors) < len(paths):
        picture = next(path for path in paths if path not in set(tensors))
        raise CalibrationError(
            where,
            "must be pictures or float tensors (.npy, .npz), not both",
            got=f"{picture.name} and {tensors[0].name}",
            hint="separate them",
        )
    if shape is None:
        assert preprocessing is not None, "one of the two says what the network takes"
        shape = (1, preprocessing.channels, preprocessing.height, preprocessing.width)
    arrays = [array for path in paths for array in stored_arrays(path, shape, file_shape)]
    source = TensorSource(tuple(arrays), tuple(shape))
    return Dataset(name=name, source=source, preprocessing=None)
