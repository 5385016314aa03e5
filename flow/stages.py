"""Stages of a run: how long each takes, and who is told how far it is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import Protocol


class Progress(Protocol):
    """Told how far a stage is."""

    def __call__(self, done: int, total: int, note: str = "", /) -> None:
        """Take how much is done and how much there is (0: not known), and a word beside it."""
        ...


class Display(Protocol):
    """Shows progress to a person; the command line has one, tests and libraries use `Silent`."""

    def open(self, text: str) -> Progress:
        """Start a bar called `text`; what is returned moves it."""
        ...

    def close(self) -> None:
        """End the bar that was opened last."""
        ...


class Silent:
    """Show nothing."""

    def open(self, text: str) -> Progress:
        """Start nothing."""
        return lambda done, total, note="": None

    def close(self) -> None:
        """End nothing."""


class Stages:
    """Measure named stages; entering one twice adds up.

    Parameters
    ----------
    display : Display, optional
        Where progress is shown.

    Attributes
    ----------
    seconds, cpu_seconds : dict[str, float]
        By stage: how long it took, and how long this process's threads worked in it.
    """

    def __init__(self, display: Display | None = None) -> None:
        """Start without a stage."""
        self._display: Display = display if display is not None else Silent()
        self.seconds: dict[str, float] = {}
        self.cpu_seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def __call__(self, name: str, text: str = "") -> Iterator[Progress]:
        """Run the body as stage `name`, shown as `text`; yields what to call with progress."""
        self.seconds.setdefault(name, 0.0)
        self.cpu_seconds.setdefault(name, 0.0)
        begin, cpu_begin = time.perf_counter(), time.process_time()
        progress = self._display.open(text or name)
        try:
            yield progress
        finally:
            self._display.close()
            self.seconds[name] += time.perf_counter() - begin
            self.cpu_seconds[name] += time.process_time() - cpu_begin
