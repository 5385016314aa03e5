"""What a network answers to images: its classes, or the range of each output; kept as files."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.table import Table
from rich.text import Text

from flow.data.datasets import Dataset
from flow.outputs import Output, classes_of, slices_of
from flow.results.evaluate import Network
from flow.system.files import write_atomic
from vta_config.errors import CalibrationError
from vta_config.text import printable, shown_name


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Outputs by image.

    Parameters
    ----------
    images : tuple of str
        What tables call the images.
    outputs : tuple of str
        Names of the outputs.
    values : tuple of tuples of arrays
        Of each image, each output.
    """

    images: tuple[str, ...]
    outputs: tuple[str, ...]
    values: tuple[tuple[NDArray[Any], ...], ...]

    def save(self, folder: Path) -> None:
        """Write each output as ``NUMBER.OUTPUT.npy``.

        Raises
        ------
        ArtifactError
            When a file cannot be written.
        """
        names = [
            "".join(c if c.isalnum() or c in "._-" else "_" for c in name)[:50]
            for name in self.outputs
        ]
        if len(set(names)) < len(names):  # which differ in what no file's name should have
            names = [f"{place}.{name}" for place, name in enumerate(names)]
        for number, arrays in enumerate(self.values):
            for name, array in zip(names, arrays, strict=True):
                file = io.BytesIO()
                np.save(file, array)
                hint = "choose another --save"
                write_atomic(folder / f"{number}.{name}.npy", file.getvalue(), hint=hint)

    def table(self, outputs: Sequence[Output], names: Sequence[str], top: int) -> Table:
        """Return the classes of a classifier, else the range of each output.

        Parameters
        ----------
        outputs : sequence of Output
        names : sequence of str
            Of classes, as far as they are known.
        top : int
            Number of classes.
        """
        return self.ranges() if classes_of(outputs) is None else self.classes(names, top)

    def to_json(
        self, outputs: Sequence[Output] = (), names: Sequence[str] = (), top: int = 0
    ) -> list[dict[str, Any]]:
        """Return what the tables show as JSON values, an object for each image; nan, inf: null."""
        if outputs and classes_of(outputs) is not None:
            return [
                {
                    "image": image,
                    "classes": [
                        found | {"logit": _finite(found["logit"])}
                        for found in _largest(logits, names, top)
                    ],
                }
                for image, (logits,) in zip(self.images, self.values, strict=True)
            ]
        return [
            {
                "image": image,
                "outputs": [
                    {"name": name, "shape": list(array.shape)}
                    | {key: _finite(f(array).item()) for key, f in _RANGE.items()}
                    for name, array in zip(self.outputs, arrays, strict=True)
                ],
            }
            for image, arrays in zip(self.images, self.values, strict=True)
        ]

    def classes(self, names: Sequence[str], top: int) -> Table:
        """Return the classes with the largest logits, with their names where any is known."""
        named = ("name",) if names else ()
        table = _table(("image", "class", *named, "logit"), right=("class", "logit"))
        for image, (logits,) in zip(self.images, self.values, strict=True):
            for place, found in enumerate(_largest(logits, names, top)):
                cells = [image if place == 0 else "", str(found["class"])]
                cells += [printable(found["name"])] if names else []
                table.add_row(*map(Text, cells), f"{found['logit']:.4f}")
            table.add_section()
        return table

    def ranges(self) -> Table:
        """Return least, mean and largest number of each output."""
        numbers = ("least", "mean", "largest")
        table = _table(("image", "output", "shape", *numbers), right=numbers)
        for image, arrays in zip(self.images, self.values, strict=True):
            for place, (name, array) in enumerate(zip(self.outputs, arrays, strict=True)):
                shape = "×".join(map(str, array.shape))
                whole = array.dtype.kind == "i"
                least, mean, largest = (f(array) for f in _RANGE.values())
                ends = [str(x) if whole else f"{x:.4f}" for x in (least, largest)]
                text = Text(image if place == 0 else "")
                table.add_row(text, Text(shown_name(name)), shape, ends[0], f"{mean:.4f}", ends[1])
            table.add_section()
        return table


#: What is told of an output that has no classes.
_RANGE: Final[Mapping[str, Callable[[NDArray[Any]], Any]]] = {
    "least": np.min,
    "mean": np.mean,
    "largest": np.max,
}


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _largest(logits: NDArray[Any], names: Sequence[str], top: int) -> list[dict[str, Any]]:
    """Return the classes with the largest logits; of equal ones the first."""
    flat = logits.reshape(-1)
    return [
        {
            "class": int(index),
            "name": names[index] if index < len(names) else "",
            "logit": float(flat[index]),
        }
        for index in np.argsort(-flat, kind="stable")[:top]
    ]


def _table(columns: Sequence[str], right: Sequence[str]) -> Table:
    table = Table(header_style="bold")
    for heading in columns:
        table.add_column(heading, justify="right" if heading in right else "left")
    return table


def answers_of(
    data: Dataset, network: Network, outputs: Sequence[Output], folder: Path | None = None
) -> Answers:
    """Run a network on images; write what it computes to `folder`, where one is given."""
    values = []
    for image in data:
        row = np.asarray(network(image), np.float32).reshape(-1)
        parts = zip(outputs, slices_of(outputs), strict=True)
        values.append(tuple(row[part].reshape(output.shape) for output, part in parts))
    answers = Answers(
        images=tuple(printable(data.source.where(i)) for i in range(len(data))),
        outputs=tuple(output.name for output in outputs),
        values=tuple(values),
    )
    if folder is not None:
        answers.save(folder)
    return answers


def class_names(path: Path | None) -> list[str]:
    """Read one class name per line.

    Raises
    ------
    CalibrationError
        When the file cannot be read as text.
    """
    if path is None:
        return []
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(
            str(path), "must be a text file with one class name per line", got=error,
            hint="check --names",
        ) from None  # fmt: skip
