"""Numbers that take long to measure, kept in a file by what they depend on."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from flow.system.files import locked, write_atomic
from vta_config.errors import ArtifactError
from vta_config.files import read_bounded

if TYPE_CHECKING:
    from flow.pipeline import Pipeline

#: Larger files are not read.
MAX_BYTES: Final = 1 << 24
#: Part of every key: raise it when lowering, the timing model or a sensitivity changes.
VERSION: Final = 3


class Kept:
    """A JSON file of values by key; what cannot be read is measured again.

    Parameters
    ----------
    path : Path, optional
        None: nothing is kept.
    """

    def __init__(self, path: Path | None) -> None:
        """Start without reading."""
        self._path = path

    def get(self, key: str, measure: Callable[[], Any], fits: Callable[[Any], bool]) -> Any:
        """Return what is kept under `key` if it fits, else measure and keep it."""
        known = self._read().get(key)
        if known is not None and fits(known):
            return known
        value = measure()
        if self._path is not None:
            with contextlib.suppress(OSError, ArtifactError):  # it saves time: no reason to end
                with locked(self._path):
                    entries = self._read() | {key: value}
                    text = json.dumps(dict(sorted(entries.items())), indent=1)
                    write_atomic(self._path, text.encode(), hint="choose a --cache")
        return value

    def _read(self) -> dict[str, Any]:
        if self._path is None:
            return {}
        try:
            entries = json.loads(read_bounded(self._path, MAX_BYTES).decode("utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        return entries if isinstance(entries, dict) else {}


def numbers_fit(names: list[str]) -> Callable[[Any], bool]:
    """Return what tells whether a value has a number of 0 or more for each name, no others."""

    def fits(value: Any) -> bool:
        return (
            isinstance(value, dict)
            and set(value) == set(names)
            and all(type(v) in (int, float) and 0 <= v < float("inf") for v in value.values())
        )

    return fits


def key_of(pipeline: Pipeline, *facts: object) -> str:
    """Return a key: of the model, the calibration images' profiles, the machine, and `facts`."""
    digest = sha256(pipeline.model.sha256.encode())
    for name, profile in sorted(pipeline.profiles.items()):
        digest.update(repr((name, profile.lo, profile.hi, profile.samples)).encode())
        digest.update(profile.histogram.tobytes())
    machine = {k: v for k, v in pipeline.config.to_json().items() if k not in ("NAME", "CLOCK_HZ")}
    digest.update(repr((VERSION, machine, facts)).encode())
    return digest.hexdigest()
