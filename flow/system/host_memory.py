"""Memory of this process: what was freed goes back to the system."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import sys


def give_back() -> None:
    """Collect cycles, and return freed memory to the system where the C library can (glibc).

    Arrays of a few megabytes lie in the C library's heap, where freed ones stay as gaps: a process
    that quantizes one variant after the other would grow by hundreds of megabytes. TVM's virtual
    machine keeps what it freed in pools of its own, for all modules together.
    """
    gc.collect()
    if (ffi := sys.modules.get("tvm_ffi")) is not None:  # it takes seconds to import
        clear = ffi.get_global_func("vm.builtin.memory_manager.clear", allow_missing=True)
        if clear is not None:
            clear()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
