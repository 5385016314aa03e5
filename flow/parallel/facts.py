"""What a process computes with: results of two processes agree where these facts do.

This module is sent to workers whose own sources may be other ones, or missing: its functions import
what they need inside, and take nothing of the project for granted.
"""

from __future__ import annotations


def facts(libraries: tuple[str, ...]) -> dict[str, str]:
    """Return the versions of this project, of its sources and of libraries in this process.

    Parameters
    ----------
    libraries : tuple of str
        Names of distributions.

    Returns
    -------
    dict of str to str
        By name; ``none`` for what is not installed.
    """
    import platform
    from importlib import metadata

    def version(name: str) -> str:
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            return "none"

    found = {"vta-flow": "none", "vta-flow's sources": "none"}
    try:
        import flow

        found["vta-flow"] = flow.__version__
        from flow.cache.keys import sources

        found["vta-flow's sources"] = sources()[:12]
    except (ImportError, AttributeError):  # missing, or of a version without it
        pass
    return {**found, "Python": ".".join(platform.python_version_tuple()[:2])} | {
        n: version(n) for n in libraries
    }


def difference(own: dict[str, str], other: dict[str, str]) -> tuple[str, str] | None:
    """Return the first fact that differs and the other process' value of it; None for none."""
    for name, value in own.items():
        if other.get(name, "none") != value:
            return name, other.get(name, "none")
    return None
