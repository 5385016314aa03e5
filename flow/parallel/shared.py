"""What all items of a map need: large, sent once to a worker, and kept there in opened form."""

from __future__ import annotations

import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")
#: Opened values that a thread keeps: those of a network, its images, and of what came before.
MOST_OPENED: Final = 4


class _Opened(threading.local):
    """The opened values of one thread, the one used last at the end."""

    def __init__(self) -> None:
        self.values: OrderedDict[tuple[str, Any], Any] = OrderedDict()


_OPENED: Final = _Opened()


@dataclass(frozen=True, slots=True)
class Shared:
    """A value that travels once to each worker, by its content.

    Parameters
    ----------
    digest : str
        The sha256 of the content.
    data : uint8[bytes]
        The value, pickled.
    """

    digest: str
    data: NDArray[np.uint8] = field(compare=False, repr=False)

    @classmethod
    def of(cls, value: object) -> Shared:
        """Wrap a value that can be pickled."""
        data = pickle.dumps(value, protocol=5)
        return cls(sha256(data).hexdigest(), np.frombuffer(data, np.uint8))

    def value(self) -> Any:
        """Return the value, made once for each thread of a worker."""
        return self.opened(_same)

    def opened(self, start: Callable[[Any], T]) -> T:
        """Return what `start` makes of the value, made once for each thread of a worker.

        Simulators and sessions are used by one thread at a time, so each thread has its own.

        Parameters
        ----------
        start : callable
            A function of a module, by which what it made is found again.
        """
        kept, key = _OPENED.values, (self.digest, start)
        if key in kept:
            kept.move_to_end(key)
        else:
            kept[key] = start(pickle.loads(self.data.data))
            while len(kept) > MOST_OPENED:
                kept.popitem(last=False)
        found: T = kept[key]
        return found


def _same(value: Any) -> Any:
    return value
