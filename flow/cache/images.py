"""What tells an image of a data set from all others: its file's content, and its preprocessing."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from hashlib import sha256
from pathlib import Path

from flow.cache.keys import UnknownValueError, key_of, told
from flow.data.datasets import ArraySource, Dataset, FileSource
from flow.data.pictures import file_problem
from flow.data.tensors import RandomTensors, RowSource, TensorSource


def image_digests(data: object) -> tuple[str, ...] | None:
    """Return a key for each image of a data set, None where it has another source than files.

    Parameters
    ----------
    data : object
        A `Dataset`; there are no keys of anything else.
    """
    if not isinstance(data, Dataset):
        return None
    positions = range(len(data.source)) if data.indices is None else data.indices
    try:
        facts = _facts(data.source, positions)
    except (OSError, UnknownValueError):  # whoever reads the image says what is wrong
        return None
    how = data.preprocessing
    return None if facts is None else tuple(key_of(fact, how) for fact in facts)


def _facts(source: object, positions: Iterable[int]) -> list[object] | None:
    """Return what the images of a source are made of."""
    if isinstance(source, FileSource):
        return [_file_digest(source.paths[i]) for i in positions]
    if isinstance(source, ArraySource):
        return [told(source.images[i]) for i in positions]
    if isinstance(source, TensorSource):
        return [_stored(source, i) for i in positions]
    if isinstance(source, RowSource):
        return [tuple(_stored(own, i) for own in source.sources) for i in positions]
    if isinstance(source, RandomTensors):
        return [("random", source.shape, i) for i in positions]
    return None


def _stored(source: TensorSource, index: int) -> object:
    array, inside = source.place(index)
    content = _file_digest(array.path), array.member, array.channels_last
    return content, source.shape, inside


def _file_digest(path: Path) -> str:
    """Return the sha256 of a file, read once while it stays as it is."""
    if file_problem(path) is not None:
        raise OSError(f"{path}: no file")
    status = path.stat()
    return _digest_of(path, status.st_size, status.st_mtime_ns, status.st_ino)


@lru_cache(maxsize=1 << 17)
def _digest_of(path: Path, file_bytes: int, changed_ns: int, inode: int) -> str:
    digest = sha256()
    with path.open("rb") as file:
        while part := file.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()
