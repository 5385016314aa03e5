"""What lies in a cache folder, by kind: results, and what other parts of the flow keep there."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from flow.cache.store import LEARNED, KeptFile, files_in, remove
from flow.data.distilled import LOSS_FILE, RECORD_FILE, SHEET_FILE
from flow.data.models import ZOO

#: What each kind is, in the order in which a run makes them.
KINDS: Final[Mapping[str, str]] = {
    "downloads": "models by name",
    "distilled": "calibration images made from a model alone",
    "float32": "results of the float32 model, by image",
    "profiles": "ranges and histograms of the float model's tensors",
    LEARNED: "blocks of learned weights",
    "modules": "quantized models",
    "choices": "candidates that were compared, and which was chosen",
    "measurements": "sensitivities and cycles by bits",
    "schedules": "schedules that were searched",
    "programs": "compiled programs",
    "logits": "results of the variants, by image",
    "verified": "images on which all engines were equal",
    "layers": "SQNR and other facts about layers",
}
#: What is not removed unless it is named: it cannot be computed.
DOWNLOADS: Final = "downloads"
#: Where downloads lie in the user's own cache folder.
_MODELS: Final = "models"


@dataclass(frozen=True, slots=True, kw_only=True)
class KindFacts:
    """The files of one kind.

    Parameters
    ----------
    kind : str
        A key of `KINDS`.
    files : tuple of KeptFile
    """

    kind: str
    files: tuple[KeptFile, ...]

    @property
    def bytes_kept(self) -> int:
        """Bytes of all files."""
        return sum(file.file_bytes for file in self.files)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {"kind": self.kind, "files": len(self.files), "bytes": self.bytes_kept}


def look(folder: Path) -> tuple[KindFacts, ...]:
    """Return the files of each kind that is there; files of others are not among them."""
    found: dict[str, list[KeptFile]] = {kind: [] for kind in KINDS}
    for file in files_in(folder):
        found.setdefault(file.kind, []).append(file)
    for kind, paths in _others(folder).items():
        top = folder / kind
        found[kind] += [own for path in paths if (own := _kept(kind, path, top)) is not None]
    return tuple(KindFacts(kind=kind, files=tuple(files)) for kind, files in found.items() if files)


def clear(facts: Iterable[KindFacts], told: Callable[[], None] = lambda: None) -> int:
    """Remove files; return how many are gone.

    Parameters
    ----------
    facts : iterable of KindFacts
        As `look` returned them.
    told : callable (), optional
        Called after each file.
    """
    gone = 0
    for own in facts:
        for file in own.files:
            remove(file)
            gone += not file.path.exists()
            told()
    return gone


def _others(folder: Path) -> dict[str, list[Path]]:
    names = {Path(model.path).name for model in ZOO.values()}
    distilled = folder / "distilled"
    own = (RECORD_FILE, SHEET_FILE, LOSS_FILE, "image-*.npy")
    return {
        DOWNLOADS: [folder / part / name for part in ("", _MODELS) for name in sorted(names)],
        "distilled": sorted(path for name in own for path in distilled.glob(f"*/{name}")),
        "measurements": [folder / "measurements.json"],
        "schedules": [folder / "schedules.json"],
    }


def _kept(kind: str, path: Path, top: Path) -> KeptFile | None:
    with contextlib.suppress(OSError):
        status = path.lstat()
        if path.is_file() and not path.is_symlink():
            return KeptFile(
                path=path,
                kind=kind,
                file_bytes=status.st_size,
                used_ns=status.st_mtime_ns,
                top=top,
            )
    return None
