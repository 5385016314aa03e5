"""Values that travel once: by content, opened once for each thread."""

from __future__ import annotations

import threading

from flow.parallel.shared import MOST_OPENED, Shared

_OPENED: list[str] = []


def _open(value: str) -> str:
    _OPENED.append(value)
    return value.upper()


def test_equal_values_are_one() -> None:
    first, second = Shared.of({"a": [1, 2]}), Shared.of({"a": [1, 2]})
    assert first == second and hash(first) == hash(second) and first != Shared.of({"a": [1]})
    assert first.value() == {"a": [1, 2]}
    assert first.value() is second.value()


def test_opened_once_for_each_thread() -> None:
    _OPENED.clear()
    shared = Shared.of("x")
    assert [shared.opened(_open), shared.opened(_open)] == ["X", "X"] and _OPENED == ["x"]
    thread = threading.Thread(target=shared.opened, args=(_open,))
    thread.start()
    thread.join()
    assert _OPENED == ["x", "x"]


def test_only_the_last_ones_are_kept() -> None:
    _OPENED.clear()
    values = [Shared.of(str(k)) for k in range(MOST_OPENED + 1)]
    for value in (*values, values[-1], values[0]):
        value.opened(_open)
    assert _OPENED == [*map(str, range(MOST_OPENED + 1)), "0"]
