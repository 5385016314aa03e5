"""What the user says of a model's input: its shape, and how pictures become it.

The same can stand in a file beside the model, ``net.input.json`` for ``net.onnx`` and
``net.onnx.xz``; options of the command line come first.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

from flow.frontend.inputs import LAYOUTS as LAYOUTS
from flow.frontend.inputs import Layout
from vta_config.errors import ConfigError
from vta_config.files import read_bounded

Crop: TypeAlias = Literal["center", "none"]
CROPS: Final[tuple[Crop, ...]] = ("center", "none")
#: Stands for the model's suffixes.
SIDECAR_SUFFIX: Final = ".input.json"
_SUFFIXES: Final = (".xz", ".onnx")
_MOST_BYTES: Final = 1 << 16
_MOST_PIXELS: Final = 1 << 16
_EXAMPLES: Final[Mapping[str, str]] = {
    "input_shape": "1,3,224,224",
    "layout": "NCHW",
    "mean": "0.5 or 0.485,0.456,0.406",
    "std": "0.5 or 0.229,0.224,0.225",
    "scale": "0.00392157",
    "resize": "256 or 240x320",
    "crop": "none",
}
#: At the beginning of a sentence; in a file it is a key.
_OPTION: Final = re.compile(r"^--([a-z-]+)(?=:)")
_NUMBER: Final = re.compile(r"\s*[x×,;]\s*|\s+")


@dataclass(frozen=True, slots=True, kw_only=True)
class InputRequest:
    """What the user says of a model's input; None where nothing is said.

    Parameters
    ----------
    shape : tuple of int, optional
        As the file has it, the batch included; of a model with one input.
    shapes : mapping of str to tuple of int, optional
        The same by the names of inputs.
    layout : {"NCHW", "NHWC"}, optional
        Of images in the file.
    mean, std : tuple of float, optional
        Of each channel, or one for all: (pixel · scale - mean) / std.
    scale : float, optional
        What a pixel of 0 to 255 is multiplied by; 1/255 by default.
    resize : tuple of int, optional
        Length of the short side before the crop, or height and width, in pixels.
    crop : {"center", "none"}, optional
        ``none``: the whole picture is resized to the input's size.
    """

    shape: tuple[int, ...] | None = None
    shapes: Mapping[str, tuple[int, ...]] | None = None
    layout: Layout | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    scale: float | None = None
    resize: tuple[int, ...] | None = None
    crop: Crop | None = None

    def __post_init__(self) -> None:
        """Check what does not need the model.

        Raises
        ------
        ConfigError
            When a value cannot be.
        """
        for shape in self.wanted_shapes.values():
            if not shape or min(shape) < 1:
                raise _wrong("input_shape", "be numbers from 1 on", shape)
        if self.layout is not None and self.layout not in LAYOUTS:
            raise _wrong("layout", f"be one of {', '.join(LAYOUTS)}", self.layout)
        for name, numbers in (("mean", self.mean), ("std", self.std)):
            if numbers is not None and not (numbers and all(map(math.isfinite, numbers))):
                raise _wrong(name, "be finite numbers", numbers)
        if self.std is not None and not all(self.std):
            raise _wrong("std", "not be 0", self.std)
        if self.scale is not None and not (math.isfinite(self.scale) and self.scale):
            raise _wrong("scale", "be a finite number other than 0", self.scale)
        sizes = self.resize
        if sizes is not None and not (
            len(sizes) in (1, 2) and all(0 < size <= _MOST_PIXELS for size in sizes)
        ):
            raise _wrong("resize", f"be 1 or 2 sizes up to {_MOST_PIXELS}", sizes)
        if self.crop is not None and self.crop not in CROPS:
            raise _wrong("crop", f"be one of {', '.join(CROPS)}", self.crop)
        if self.crop == "none" and sizes is not None:
            raise ConfigError(
                "--resize",
                "must not be given with --crop none, which resizes to the input's size",
                got="x".join(map(str, sizes)),
                hint="leave one of them out",
            )

    @property
    def wanted_shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Return the shapes by the names of inputs, "" for the only one."""
        return {**({} if self.shape is None else {"": self.shape}), **(self.shapes or {})}

    def over(self, other: InputRequest) -> InputRequest:
        """Return this request, with what it does not say from another one."""
        if self.crop == "none" or self.resize is not None:  # they are one decision
            other = replace(other, resize=None, crop=None)
        said = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(other, **{name: value for name, value in said.items() if value is not None})


def parse_request(values: Mapping[str, Any], where: str = "") -> InputRequest:
    """Make a request of texts, numbers or lists, by the names of the options.

    Parameters
    ----------
    values : mapping
        ``input_shape``, ``layout``, ``mean``, ``std``, ``scale``, ``resize``, ``crop``; None where
        nothing is said.
    where : str
        The file that they are from; "" for options.

    Raises
    ------
    ConfigError
        When one cannot be.
    """

    def numbers(
        name: str, kind: type[int] | type[float], given: Any = None
    ) -> tuple[Any, ...] | None:
        if given is None and (given := values.get(name)) is None:
            return None
        parts = _NUMBER.split(given.strip()) if isinstance(given, str) else given
        parts = parts if isinstance(parts, list | tuple) else [parts]
        if any(isinstance(part, bool) for part in parts):
            parts = ["?"]
        try:
            found = tuple(kind(part) for part in parts)
        except (TypeError, ValueError, OverflowError):
            found = ()
        if not found or any(isinstance(p, float) and kind is int and p % 1 for p in parts):
            raise _wrong(name, "be numbers", given)
        return found

    try:
        scale = numbers("scale", float)
        if scale is not None and len(scale) != 1:
            raise _wrong("scale", "be one number", values["scale"])
        shape, named = _by_name(values.get("input_shape"))
        return InputRequest(
            shape=None if shape is None else numbers("input_shape", int, shape),
            shapes={n: numbers("input_shape", int, own) or () for n, own in named.items()} or None,
            layout=values.get("layout"),
            mean=numbers("mean", float),
            std=numbers("std", float),
            scale=None if scale is None else scale[0],
            resize=numbers("resize", int),
            crop=values.get("crop"),
        )
    except ConfigError as error:
        if not where:
            raise
        sentence = _OPTION.sub(lambda option: option[1].replace("-", "_"), str(error))
        raise ConfigError.from_sentence(f"{where}: {sentence}") from None


def _by_name(given: Any) -> tuple[Any, Mapping[str, Any]]:
    """Tell a shape without a name from those with names, which are NAME=SHAPE or in a mapping."""
    if isinstance(given, Mapping):
        return None, given
    texts = given if isinstance(given, list) and all(isinstance(t, str) for t in given) else []
    named = dict(text.rsplit("=", 1) for text in texts if "=" in text)
    rest = [text for text in texts if "=" not in text]
    if len(rest) == 1 and not named:
        return rest[0], {}
    return (given, {}) if rest or not texts else (None, named)


#: Keys of the file, which are the options' names.
KEYS: Final = ("input_shape", "layout", "mean", "std", "scale", "resize", "crop")


def sidecar_of(model: Path) -> Path:
    """Return where the file beside a model is."""
    name = model.name
    for suffix in _SUFFIXES:
        name = name.removesuffix(suffix)
    return model.with_name(name + SIDECAR_SUFFIX)


def read_sidecar(model: Path) -> InputRequest:
    """Read the file beside a model; nothing is said where there is none.

    Raises
    ------
    ConfigError
        When it cannot be read, is no JSON object, or says something that cannot be.
    """
    path = sidecar_of(model)
    try:
        data = json.loads(read_bounded(path, _MOST_BYTES))
    except FileNotFoundError:
        return InputRequest()
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(
            str(path), "must be a JSON file", got=reason, hint="correct or remove it"
        ) from None
    unknown = sorted(set(data) - set(KEYS)) if isinstance(data, dict) else ["no object"]
    if unknown:
        raise ConfigError(
            str(path),
            f"must be a JSON object with keys among {', '.join(KEYS)}",
            got=", ".join(map(str, unknown)),
            hint="correct or remove it",
        )
    return parse_request(data, str(path))


def _wrong(name: str, must: str, got: object) -> ConfigError:
    return ConfigError(
        f"--{name.replace('_', '-')}",
        f"must {must}",
        got=list(got) if isinstance(got, tuple) else got,
        hint=f"for example {_EXAMPLES[name]}",
    )
