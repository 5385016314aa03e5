"""Reading ``report.json``, which may be of an older release, or changed by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from vta_config.errors import ArtifactError
from vta_config.text import printable

_T = TypeVar("_T")
#: Larger numbers are no measurements, and would overflow what is computed with them.
_LARGEST: Final = 1e18
#: Characters of a value that an error shows.
_SHOWN_CHARS: Final = 60


class Missing(Exception):
    """Something that the report does not hold: the part that shows it is left out."""


@dataclass(frozen=True, slots=True)
class Values:
    """An object of a report, with its place for messages.

    What is absent and what is null is the same: older releases wrote less. `Missing` is raised for
    it by the methods without ``maybe_``, which return None.

    Parameters
    ----------
    data : mapping of str to any JSON value
    path : str
        Its place in the report, as ``latency.layers[0]``; "" for the whole.

    Raises
    ------
    ArtifactError
        By every method: when a value has another type.
    """

    data: Mapping[str, Any]
    path: str = ""

    def maybe_text(self, key: str) -> str | None:
        """Return a text, fit to be shown."""
        value = self.data.get(key)
        if value is not None and not isinstance(value, str):
            raise self._wrong(key, "a text", value)
        return None if value is None else printable(value)

    def maybe_number(self, key: str) -> float | None:
        """Return a number."""
        value = self.data.get(key)
        if value is None:
            return None
        return self._number(key, value)

    def maybe_part(self, key: str) -> Values | None:
        """Return an object."""
        value = self.data.get(key)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            raise self._wrong(key, "an object", value)
        return Values(value, self._place(key))

    def maybe_parts(self, key: str) -> list[Values] | None:
        """Return a list of objects."""
        value = self._list(key)
        if value is None:
            return None
        for item in value:
            if not isinstance(item, Mapping):
                raise self._wrong(key, "a list of objects", item)
        return [Values(item, f"{self._place(key)}[{i}]") for i, item in enumerate(value)]

    def maybe_numbers(self, key: str) -> list[float] | None:
        """Return a list of numbers."""
        value = self._list(key)
        return None if value is None else [self._number(key, item) for item in value]

    def maybe_texts(self, key: str) -> list[str] | None:
        """Return a list of texts, each fit to be shown."""
        value = self._list(key)
        if value is None:
            return None
        for item in value:
            if not isinstance(item, str):
                raise self._wrong(key, "a list of texts", item)
        return [printable(item) for item in value]

    def flag(self, key: str) -> bool:
        """Return whether something is so; absent: not."""
        value = self.data.get(key)
        if value is not None and not isinstance(value, bool):
            raise self._wrong(key, "true or false", value)
        return bool(value)

    def text(self, key: str) -> str:
        """Return a text."""
        return self._there(key, self.maybe_text(key))

    def number(self, key: str) -> float:
        """Return a number."""
        return self._there(key, self.maybe_number(key))

    def part(self, key: str) -> Values:
        """Return an object."""
        return self._there(key, self.maybe_part(key))

    def parts(self, key: str) -> list[Values]:
        """Return a list of objects."""
        return self._there(key, self.maybe_parts(key))

    def numbers(self, key: str) -> list[float]:
        """Return a list of numbers."""
        return self._there(key, self.maybe_numbers(key))

    def texts(self, key: str) -> list[str]:
        """Return a list of texts."""
        return self._there(key, self.maybe_texts(key))

    def maybe_inner(self, key: str, inner: str) -> float | None:
        """Return a number of an object, None where there is no such object."""
        part = self.maybe_part(key)
        return None if part is None else part.maybe_number(inner)

    def _list(self, key: str) -> list[Any] | None:
        value = self.data.get(key)
        if value is not None and not isinstance(value, list):
            raise self._wrong(key, "a list", value)
        return value

    def _number(self, key: str, value: Any) -> float:
        # A bool is an int of Python's, and no number of a report.
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise self._wrong(key, "a number", value)
        if not abs(value) <= _LARGEST:  # also what is no number, NaN
            raise self._wrong(key, f"within ±{_LARGEST:g}", value)
        return float(value) if isinstance(value, float) else value

    def _place(self, key: str) -> str:
        return f"{self.path}.{printable(key)}" if self.path else printable(key)

    def _there(self, key: str, value: _T | None) -> _T:
        if value is None:
            raise Missing(self._place(key))
        return value

    def _wrong(self, key: str, must: str, got: object) -> ArtifactError:
        return ArtifactError(
            f"report.json: {self._place(key)}",
            f"must be {must}",
            got=printable(repr(got), _SHOWN_CHARS),
            hint="run vta-flow deploy again",
        )
