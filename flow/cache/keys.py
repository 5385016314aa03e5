"""Keys: the sha256 of everything that a result depends on."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Set
from dataclasses import fields, is_dataclass
from enum import Enum
from fractions import Fraction
from functools import cache
from hashlib import sha256
from importlib import metadata
from pathlib import Path, PurePath
from typing import Final

import numpy as np

import flow
import relay_passes
import vta_config
from vta_config.files import read_bounded

#: Libraries whose versions count, those that are not installed included.
LIBRARIES: Final = (
    "apache-tvm",
    "apache-tvm-ffi",
    "numpy",
    "onnx",
    "onnxruntime",
    "pillow",
    "torch",
)
_PLAIN: Final = (str, bytes, bool, int, float, Fraction, type(None), PurePath)
#: What is compiled into the package.
_COMPILED: Final = "*.so"


class UnknownValueError(TypeError):
    """A value of a type that has no key: what depends on it is not kept."""


def key_of(*facts: object) -> str:
    """Return the sha256 of values, of the sources of this package, and of the libraries.

    Parameters
    ----------
    *facts : object
        Numbers, strings, paths, arrays, enumerations, dataclasses; tuples, lists, sets and mappings
        of these.

    Raises
    ------
    UnknownValueError
        When one is of another type.
    """
    return sha256(f"{environment()} {told(facts)}".encode(errors="surrogatepass")).hexdigest()


def told(value: object) -> str:
    """Return a value as text, the same in every process, different for different values."""
    if isinstance(value, np.ndarray):
        data = np.ascontiguousarray(value)
        if data.dtype.hasobject:
            raise UnknownValueError(str(data.dtype))
        return f"array{data.shape}{data.dtype.str}{sha256(data.tobytes()).hexdigest()}"
    if isinstance(value, np.generic):
        return f"{value.dtype.str}{value!r}"
    if isinstance(value, Enum):
        return f"{type(value).__qualname__}.{value.name}"
    if is_dataclass(value) and not isinstance(value, type):
        named = {field.name: getattr(value, field.name) for field in fields(value)}
        return f"{type(value).__module__}.{type(value).__qualname__}{told(named)}"
    if isinstance(value, Mapping):
        pairs = sorted((told(key), told(item)) for key, item in value.items())
        return "{" + ",".join(f"{key}:{item}" for key, item in pairs) + "}"
    if isinstance(value, Set):
        return "set(" + ",".join(sorted(map(told, value))) + ")"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__}(" + ",".join(map(told, value)) + ")"
    if not isinstance(value, _PLAIN):
        raise UnknownValueError(type(value).__qualname__)
    return repr(value)


def sources() -> str:
    """Return the sha256 of the Python sources of this package."""
    return _digest_of_files("*.py")


def _digest_of_files(pattern: str) -> str:
    """Return the sha256 of files of this package, by their names and contents."""
    digest = sha256()
    for package in (vta_config, relay_passes, flow):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob(pattern)):
            digest.update(f"{package.__name__} {path.relative_to(root).as_posix()}\0".encode())
            digest.update(sha256(path.read_bytes()).digest())
    return digest.hexdigest()


@cache
def environment() -> str:
    """Return what a result depends on beside its inputs.

    The sources of this package, its compiled core, the versions of Python and of libraries, and the
    processor, by whose instructions they choose their code.
    """
    digest = sha256(f"{sources()} {_digest_of_files(_COMPILED)}".encode())
    digest.update(repr([(name, _version(name)) for name in LIBRARIES]).encode())
    digest.update(repr((platform.python_version(), platform.machine())).encode())
    digest.update(_processor())
    return digest.hexdigest()


def _version(library: str) -> str:
    try:
        return metadata.version(library)
    except metadata.PackageNotFoundError:
        return ""


def _processor() -> bytes:
    """Return the processor's name and what it can do, where the system tells."""
    try:
        text = read_bounded(Path("/proc/cpuinfo"), 1 << 24)
    except OSError:
        return platform.processor().encode()
    names = (b"model name", b"flags", b"Features", b"CPU part")
    return b"\n".join(sorted({line for line in text.splitlines() if line.startswith(names)}))
