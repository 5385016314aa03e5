"""Memory of this process: what was freed goes back to the system."""

from __future__ import annotations

import contextlib
import ctypes
import gc


def give_back() -> None:
    """Collect cycles, and return freed memory to the system where the C library can (glibc).

    Arrays of a few megabytes lie in the C library's heap, where freed ones stay as gaps: a process
    that quantizes one variant after the other would grow by hundreds of megabytes.
    """
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
