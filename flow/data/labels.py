"""Which images a folder holds, and their labels: ``labels.csv``, or one folder for each class."""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Final, NoReturn, TextIO

from flow.data.pictures import FOLDER, MISSING, file_problem
from flow.data.tensors import TENSOR_SUFFIXES
from vta_config.errors import CalibrationError
from vta_config.files import read_bounded

IMAGE_SUFFIXES: Final = frozenset(
    {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
_SUFFIXES: Final = IMAGE_SUFFIXES | TENSOR_SUFFIXES
LABELS_FILE: Final = "labels.csv"
LABELS_HEADER: Final = ("filename", "label_index")
#: Labels are below, also where the number of classes is not known.
MAX_CLASSES: Final = 1 << 31
#: A longer line of ``labels.csv`` is not read.
MAX_LINE_CHARS: Final = 1 << 16
#: A longer list is not read.
MAX_LIST_BYTES: Final = 1 << 26
#: Of text files that list images.
LIST_SUFFIXES: Final = frozenset({".txt", ".lst", ".list"})


def read_list(
    file: Path, classes: int | None, *, labelled: bool
) -> tuple[list[Path], list[int] | None]:
    """Read a text file with a path on each line, relative to its folder, and a class or none.

    The class is a number behind the path, after blanks or a comma: ``a/cat.png 282``. Blank lines
    and those that begin with # do not count. Either all images have a class or none.

    Raises
    ------
    CalibrationError
        When the file is no text, or a line names no image, one named before or no class.
    """
    try:
        lines = read_bounded(file, MAX_LIST_BYTES).decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(
            str(file), "must be UTF-8 text", got=error, hint="save it again"
        ) from None
    paths: list[Path] = []
    labels: list[int | None] = []
    seen: set[tuple[str, str]] = set()
    places = _Places()
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        where = f"{file}, line {number}"
        name, label = text, None
        parts = re.fullmatch(r"(.*\S)(?:\s*,\s*|\s+)(\d{1,9})", text)
        if parts is not None:
            name, label = parts[1], int(parts[2])
        path = file.parent / name
        problem = None if path.suffix.lower() in _SUFFIXES else "another suffix"
        if problem := problem or file_problem(path):
            raise CalibrationError(
                where, "must name an image", got=f"{name}: {problem}", hint="correct the list"
            )
        if labelled and classes is not None and label is not None and label >= classes:
            raise CalibrationError(
                where,
                f"must have a class below {classes}",
                got=label,
                hint="give the model that the classes are of",
            )
        if (place := places.of(path)) in seen:
            raise CalibrationError(
                str(file), "must list each image once", got=f"{path} twice", hint="remove a line"
            )
        seen.add(place)
        paths.append(path)
        labels.append(label)
    with_class = [label for label in labels if label is not None]
    if labelled and with_class and len(with_class) < len(labels):
        raise CalibrationError(
            str(file),
            "must give all images a class, or none",
            got=f"{len(with_class):,} of {len(labels):,}",
            hint="add the missing ones",
        )
    return paths, with_class if labelled and with_class else None


def images_in(root: Path) -> list[Path]:
    """List the images below `root`, pictures and tensors, sorted by path.

    Hidden files and folders (``.x``, and with them the ``._x.png`` of macOS) do not count. Links to
    folders are followed, but no folder is entered twice, nor one that holds `root`.

    Raises
    ------
    CalibrationError
        When a folder cannot be read, or what has the name of an image is no ordinary file.
    """
    found: list[Path] = []
    entered = {_identity(str(parent)) for parent in Path(os.path.realpath(root)).parents}
    for name, folders, files in os.walk(root, onerror=_unreadable_folder, followlinks=True):
        folder = Path(name)
        identity = _identity(name)
        if identity in entered:
            folders.clear()
            continue
        entered.add(identity)
        folders[:] = sorted(folder for folder in folders if not folder.startswith("."))
        for file in files:
            path = folder / file
            if file.startswith(".") or path.suffix.lower() not in _SUFFIXES:
                continue
            if (problem := file_problem(path)) is not None:
                raise CalibrationError(
                    str(path),
                    "must be an image",
                    got=problem,
                    hint="replace or remove it",
                )
            found.append(path)
    return sorted(found)


def _identity(folder: str) -> object:
    """Return what tells a folder from others, whatever path leads there."""
    try:
        status = os.stat(folder)  # noqa: PTH116  # paths by the thousand
    except OSError:  # a parent without permission
        return folder
    return status.st_dev, status.st_ino


def _unreadable_folder(error: OSError) -> NoReturn:
    raise CalibrationError(
        os.fsdecode(error.filename),
        "must be a readable folder",
        got=error.strerror or error,
        hint="check its permissions",
    ) from None


class _Places:
    """The place of a file on disk: of ``a.png``, ``./a.png`` and ``link/a.png`` the same."""

    def __init__(self) -> None:
        self._folders: dict[Path, str] = {}

    def of(self, path: Path) -> tuple[str, str]:
        """Return the real folder of `path`, and its name there."""
        folder = path.parent
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return self._folders[folder], path.name


# ---- labels.csv ---------------------------------------------------------------------------------
def read_labels(root: Path, classes: int | None, *, labelled: bool) -> tuple[list[Path], list[int]]:
    """Read ``labels.csv`` of the folder `root`: the images that it names, and their labels.

    Parameters
    ----------
    root : Path
        The folder.
    classes : int, optional
        Labels must be below.
    labelled : bool
        False: the names count alone; no label is read.

    Raises
    ------
    CalibrationError
        When the file is not what it must be, names an image twice or one that is not there, or
        a class that does not exist.
    """
    file = root / LABELS_FILE
    rows = _rows(file)
    _, first = next(rows, (1, []))
    header = tuple(cell.strip() for cell in first)
    columns = 2 if labelled else 1
    if header[:columns] != LABELS_HEADER[:columns]:
        raise CalibrationError(
            f"{file} line 1",
            f"must be {','.join(LABELS_HEADER)}",
            got=repr(",".join(header)),
            hint="rename the two columns",
        )
    paths: list[Path] = []
    labels: list[int] = []
    seen: dict[tuple[str, str], int] = {}
    places = _Places()
    for number, row in rows:
        if not any(cell.strip() for cell in row):
            continue
        where = f"{file} line {number}"
        name = row[0].strip()
        label = _label(where, row, classes) if labelled else 0
        path = _image(where, root, name)
        place = places.of(path)
        if place in seen:
            again = f"{name} again"
            if seen[place] != label:
                again += f", with class {label} instead of {seen[place]}"
            raise CalibrationError(
                where, "must name every image once", got=again, hint="remove one row"
            )
        seen[place] = label
        paths.append(path)
        labels.append(label)
    return paths, labels


def _rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the rows of a CSV file with the number of their (last) line, one at a time."""
    problem = file_problem(file)
    if problem is not None:
        raise _no_csv(file, problem)
    try:
        with file.open(encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(_lines(file, text))
            for row in reader:
                yield reader.line_num, row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise _no_csv(file, error) from None


def _no_csv(file: Path, got: object) -> CalibrationError:
    return CalibrationError(str(file), "must be a CSV text file", got=got, hint="save it as UTF-8")


def _lines(file: Path, text: TextIO) -> Iterator[str]:
    """Yield lines, none of them longer than `MAX_LINE_CHARS`."""
    number = 0
    while line := text.readline(MAX_LINE_CHARS + 1):
        number += 1
        if len(line) > MAX_LINE_CHARS:
            raise CalibrationError(
                f"{file} line {number}",
                f"must have at most {MAX_LINE_CHARS:,} characters",
                got="more",
                hint="one row for each image, e.g. cat.png,282",
            )
        yield line


def _label(where: str, row: list[str], classes: int | None) -> int:
    """Return the class number of a row."""
    digits = row[1].strip() if len(row) > 1 else ""
    if not digits.isdecimal() or not row[0].strip():
        raise CalibrationError(
            where,
            "must be a file name and a class number",
            got=repr(",".join(row)),
            hint="e.g. cat.png,282",
        )
    last = (MAX_CLASSES if classes is None else classes) - 1
    # int() refuses numbers of some thousand digits.
    digits = digits.lstrip("0") or "0"
    length = len(digits)
    if length > len(str(MAX_CLASSES)) or int(digits) > last:
        raise CalibrationError(
            where,
            f"must be a class in [0, {last}]",
            got=digits if length < 20 else f"a number of {length} digits",
            hint="these labels belong to another model",
        )
    return int(digits)


def _image(where: str, root: Path, name: str) -> Path:
    """Return the image that a row names."""
    normal = PurePath(os.path.normpath(name))
    if normal.is_absolute() or ".." in normal.parts[:1]:
        raise CalibrationError(
            where,
            "must name an image inside the folder",
            got=name,
            hint="put the image, or a link to it, beside labels.csv",
        )
    problem = file_problem(root / name)
    if problem is not None:
        problem = "which is missing" if problem == MISSING else f"no image: {problem}"
        raise CalibrationError(
            where,
            "must name an image in its folder",
            got=f"{name or 'no name'}, {problem}",
            hint="fix the row or the folder",
        )
    return root / name


# ---- class folders ------------------------------------------------------------------------------
def read_class_folders(root: Path, classes: int | None) -> tuple[list[Path], list[int]] | None:
    """Label images by the folder of `root` that they lie in; None when no folder holds one.

    A folder's name is the class number when all names are numbers, else its class is its place
    among the sorted names. Images beside the folders do not count.

    Raises
    ------
    CalibrationError
        When folders do not match the classes, or an image lies in two of them.
    """
    real = Path(os.path.realpath(root))
    members: dict[Path, list[Path]] = {}
    for folder in _folders(root):
        if not real.is_relative_to(os.path.realpath(folder)) and (images := images_in(folder)):
            members[folder] = images
    if not members:
        return None
    paths: list[Path] = []
    labels: list[int] = []
    seen: dict[tuple[str, str], int] = {}
    places = _Places()
    numbers = _class_numbers(root, list(members), classes)
    for number, images in zip(numbers, members.values(), strict=True):
        for path in images:
            place = places.of(path)
            if seen.setdefault(place, number) != number:
                raise CalibrationError(
                    str(path),
                    "must be in one class",
                    got=f"classes {seen[place]} and {number}",
                    hint="remove one of the links to it",
                )
            paths.append(path)
            labels.append(number)
    return paths, labels


def _folders(root: Path) -> list[Path]:
    """List the folders in `root`, hidden ones left out, sorted by name."""
    try:
        entries = sorted(root.iterdir())
    except OSError as error:
        _unreadable_folder(error)
    return [e for e in entries if not e.name.startswith(".") and file_problem(e) == FOLDER]


def _class_numbers(root: Path, folders: list[Path], classes: int | None) -> list[int]:
    """Return the class number of each folder."""
    numbered = [folder.name.isdecimal() for folder in folders]
    if all(numbered):
        numbers = [int(folder.name) for folder in folders]
        last = (MAX_CLASSES if classes is None else classes) - 1
        if max(numbers) > last:
            raise CalibrationError(
                str(root),
                f"must have folders named after classes in [0, {last}]",
                got=max(numbers),
                hint="these labels belong to another model",
            )
        return numbers
    if any(numbered):
        raise CalibrationError(
            str(root),
            "must have folders that are all named by class numbers, or all by class names",
            got=f"{folders[numbered.index(True)].name} and {folders[numbered.index(False)].name}",
            hint="rename them, or write labels.csv",
        )
    if classes is not None and len(folders) != classes:
        raise CalibrationError(
            str(root),
            f"must have one folder for each of the {classes} classes",
            got=f"{len(folders)} folders",
            hint="name the folders by class index, or write labels.csv",
        )
    return list(range(len(folders)))
