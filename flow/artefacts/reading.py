"""JSON from anywhere, read value by value: each is what it must be, or one sentence says so."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from vta_config.errors import ArtifactError

_HINT: Final = "deploy again"
_SHA256: Final = re.compile("[0-9a-f]{64}")
#: Names of files that are in the folder itself.
_FILE_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}")
_MOST_CHARS: Final = 1 << 16
_MOST_ELEMS: Final = (1 << 31) - 1
#: Brackets inside each other; ours have six. Readers call themselves for each.
_MOST_LEVELS: Final = 32
_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*"?', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Reading:
    """An object of JSON.

    Parameters
    ----------
    values : dict
        The object.
    where : str
        The file.
    path : str
        The place in it, as ``inputs[0].``; "" for the whole.

    Raises
    ------
    ArtifactError
        By each method, when the value at a key is missing or something else.
    """

    values: dict[str, Any]
    where: str
    path: str = ""

    @classmethod
    def of_bytes(cls, data: bytes, where: str) -> Reading:
        """Parse a file that holds one object."""
        try:
            text = data.decode()
            depth = most = 0
            for bracket in re.findall(r"[][{}]", _STRING.sub("", text)):
                depth += 1 if bracket in "[{" else -1
                most = max(most, depth)
            if most > _MOST_LEVELS:
                raise ValueError(f"{most} levels of brackets")
            values = json.loads(text, parse_constant=_no_constant)
        except ValueError as error:
            raise ArtifactError(where, "must be JSON", got=error, hint=_HINT) from None
        if not isinstance(values, dict):
            got = type(values).__name__
            raise ArtifactError(where, "must be a JSON object", got=got, hint=_HINT)
        return cls(values, where)

    def wrong(self, key: str, must: str, got: object) -> ArtifactError:
        """Return the error of a value that is not what it must be."""
        return ArtifactError(f"{self.where}: {self.path}{key}", f"must {must}", got=got, hint=_HINT)

    def _get(self, key: str) -> Any:
        if key not in self.values:
            raise self.wrong(key, "be there", "nothing")
        return self.values[key]

    def text(self, key: str) -> str:
        """Return a string that can be written as UTF-8."""
        value = self._get(key)
        if not isinstance(value, str) or len(value) > _MOST_CHARS or _surrogates(value):
            raise self.wrong(key, "be a string", _shown(value))
        return value

    def texts(self) -> dict[str, str]:
        """Return the object itself, all of whose values are strings."""
        return {key: self.text(key) for key in self.values}

    def choice(self, key: str, choices: Sequence[str]) -> str:
        """Return one of several strings."""
        value = self._get(key)
        if value not in choices:
            raise self.wrong(key, f"be one of {', '.join(choices)}", _shown(value))
        return str(value)

    def digest(self, key: str) -> str:
        """Return a SHA-256 in hexadecimal."""
        value = self.text(key)
        if not _SHA256.fullmatch(value):
            raise self.wrong(key, "be a SHA-256 of 64 hexadecimal digits", _shown(value))
        return value

    def file_name(self, key: str) -> str:
        """Return the name of a file in the folder itself."""
        value = self.text(key)
        if not _FILE_NAME.fullmatch(value):
            must = "be the name of a file in the folder, of letters, digits and ._-"
            raise self.wrong(key, must, _shown(value))
        return value

    def integer(self, key: str, low: int, high: int) -> int:
        """Return an integer in [low, high]."""
        value = self._get(key)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise self.wrong(key, f"be an integer in [{low}, {high}]", _shown(value))
        return value

    def number(self, key: str, *, positive: bool = False) -> float:
        """Return a finite number, above 0 where `positive`."""
        value = self._get(key)
        if not _is_number(value) or (positive and value <= 0):
            wanted = "a finite number above 0" if positive else "a finite number"
            raise self.wrong(key, f"be {wanted}", _shown(value))
        return float(value)

    def numbers(self, key: str, counts: Sequence[int]) -> tuple[float, ...]:
        """Return a list of finite numbers, as many as one of `counts`."""
        values = self._get(key)
        if (
            not isinstance(values, list)
            or len(values) not in counts
            or not all(map(_is_number, values))
        ):
            count = " or ".join(str(count) for count in dict.fromkeys(counts))
            raise self.wrong(key, f"be a list of {count} finite numbers", _shown(values))
        return tuple(float(value) for value in values)

    def shape(self, key: str, rank: int | None = None) -> tuple[int, ...]:
        """Return dimensions, at least 1 each, of a tensor that is not absurd."""
        values = self._get(key)
        if (
            not isinstance(values, list)
            or len(values) > 16
            or (rank is not None and len(values) != rank)
            or not all(isinstance(v, int) and not isinstance(v, bool) and v > 0 for v in values)
            or math.prod(values) > _MOST_ELEMS
        ):
            count = "" if rank is None else f"{rank} "
            raise self.wrong(key, f"be a list of {count}dimensions of at least 1", _shown(values))
        return tuple(values)

    def object(self, key: str) -> Reading:
        """Return an object."""
        value = self._get(key)
        if not isinstance(value, dict):
            raise self.wrong(key, "be an object", _shown(value))
        return Reading(value, self.where, f"{self.path}{key}.")

    def optional(self, key: str) -> Reading | None:
        """Return an object, None for null."""
        return None if self._get(key) is None else self.object(key)

    def objects(self, key: str) -> list[Reading]:
        """Return a list of objects."""
        values = self._get(key)
        if not isinstance(values, list) or not all(isinstance(v, dict) for v in values):
            raise self.wrong(key, "be a list of objects", _shown(values))
        return [Reading(v, self.where, f"{self.path}{key}[{i}].") for i, v in enumerate(values)]


def _is_number(value: object) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < 3.4e38  # false of NaN and infinity, and float32 holds it


def _surrogates(text: str) -> bool:
    return any("\ud800" <= c <= "\udfff" for c in text)


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 80 else f"{text[:80]}…"


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
