"""The shared library of the C++ core: found, loaded once, its errors turned into ours."""

from __future__ import annotations

import ctypes
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from relay_passes.load_tvm import without_torch
from vta_config import errors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LIBRARY: Final = "libvta_sim.so"
_KINDS: Final = (
    errors.ConfigError,
    errors.CapacityError,
    errors.DecodeError,
    errors.HazardError,
    errors.DeadlockError,
    errors.DriverError,
    errors.ArtifactError,
)


def _register(kind: type[errors.FlowError]) -> None:
    """Let tvm_ffi raise `kind` with the sentence that the core wrote."""

    class Sentence:
        """A type, as tvm_ffi wants one, whose call wraps a whole sentence; `kind` takes parts."""

        def __new__(cls, sentence: str) -> Any:
            return kind.from_sentence(sentence)

    import tvm_ffi

    tvm_ffi.register_error(kind.__name__, kind)
    tvm_ffi.register_error(kind.__name__, Sentence)


@lru_cache(maxsize=1)
def load_library(directory: Path | None = None) -> ctypes.CDLL:
    """Load the core and return its handle; afterwards its global functions ``vta.*`` exist.

    Parameters
    ----------
    directory : Path, optional
        Where the library lies; by default beside this file, where the build puts it.

    Raises
    ------
    ArtifactError
        When the library is not there or cannot be loaded.
    """
    with without_torch():
        import tvm_ffi  # noqa: F401  # what the core is linked with; takes time to import

    path = (directory or Path(__file__).parent) / LIBRARY
    if not path.is_file():
        raise errors.ArtifactError(
            str(path),
            "must exist",
            hint="install the package, or run cmake -S . -B build && cmake --build build",
        )
    try:
        library = ctypes.CDLL(str(path))
    except OSError as error:
        raise errors.ArtifactError(
            str(path), "must be a loadable library", got=error, hint="build it again"
        ) from None
    for kind in _KINDS:
        _register(kind)
    return library


def core_function(name: str) -> Callable[..., Any]:
    """Return the global function `name` of the core, loading it first."""
    load_library()

    import tvm_ffi

    function: Callable[..., Any] = tvm_ffi.get_global_func(name)
    return function


def vta_modules(module: Any) -> Iterator[Any]:
    """Yield the VTA modules inside a TVM module."""
    if module.kind == "vta":
        yield module
    for part in module.imports:
        yield from vta_modules(part)
