"""Load TVM without PyTorch.

Where PyTorch is installed, TVM imports it when it is imported itself, for callers that hand over
PyTorch's tensors. Nobody does so here, and it takes a second and 200 MB. What needs PyTorch imports
it later.
"""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_TORCH: Final = "torch"


def load_tvm() -> None:
    """Import TVM, unless it is there; to be called before anything else imports it."""
    with without_torch():
        import tvm.relax  # noqa: F401


@contextmanager
def without_torch() -> Iterator[None]:
    """Let imports of PyTorch fail inside the ``with`` block, unless it is loaded already."""
    if _TORCH in sys.modules:
        yield
        return
    sys.modules[_TORCH] = None  # type: ignore[assignment]  # Python's sign for this
    try:
        yield
    finally:
        del sys.modules[_TORCH]
