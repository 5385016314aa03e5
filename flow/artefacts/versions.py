"""What makes and runs artefacts: versions of packages, and the host."""

from __future__ import annotations

import importlib.metadata
import platform
from typing import Final

#: Of a package that is run from its sources, without being installed.
_UNINSTALLED: Final = "not installed"
_PACKAGES: Final = ("vta-flow", "apache-tvm", "apache-tvm-ffi", "numpy")


def versions() -> dict[str, str]:
    """Return the versions of what makes and runs artefacts."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = _UNINSTALLED
    return found


def host_platform() -> str:
    """Return what a library's code is for: "Linux x86_64"."""
    return f"{platform.system()} {platform.machine()}"
