"""Learned blocks in the cache: learning that was stopped goes on behind the last finished one."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow.system.files import check_writable, write_atomic
from vta_config.files import read_bounded

#: Larger files are none of these: a hundred million weights are 13 MB.
_MAX_BYTES = 1 << 30
_HINT = "choose another --cache"


class LearnedBlocks:
    """Keeps the stages of each run of a learner in a folder of its own; a `Kept`.

    Parameters
    ----------
    folder : Path
        Of all runs; made when something is kept.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def load(self, key: str, number: int) -> Mapping[str, NDArray[Any]] | None:
        """Return what was saved; None where there is nothing, or it is damaged."""
        try:
            data = read_bounded(self._path(key, number), _MAX_BYTES)
            with np.load(io.BytesIO(data), allow_pickle=False) as file:
                return {name: _unpacked(name, file) for name in file.files if name[-1] != "#"}
        except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile):
            return None

    def save(self, key: str, number: int, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Write a stage's arrays at once, or nothing.

        Raises
        ------
        ArtifactError
            When the folder cannot be written.
        """
        packed: dict[str, NDArray[Any]] = {}
        for name, array in arrays.items():
            packed[name] = array
            if array.dtype == bool:
                packed[name], packed[f"{name}#"] = np.packbits(array), np.array(array.shape)
        data = io.BytesIO()
        np.savez(data, **packed)  # type: ignore[arg-type]  # of names as keywords
        path = self._path(key, number)
        check_writable(path.parent, hint=_HINT)
        write_atomic(path, data.getvalue(), hint=_HINT)

    def _path(self, key: str, number: int) -> Path:
        return self._folder / key[:24] / f"stage-{number:03d}.npz"


def _unpacked(name: str, file: Any) -> NDArray[Any]:
    array = np.asarray(file[name])
    if f"{name}#" not in file.files:
        return array
    shape = tuple(file[f"{name}#"].tolist())
    return np.unpackbits(array, count=int(np.prod(shape))).astype(bool).reshape(shape)
