"""Which cores or computers work, as the user asks for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from vta_config.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    """Who works; by default this process alone.

    Parameters
    ----------
    jobs : int, optional
        Workers on this machine.
    cluster : str, optional
        Address of a Dask scheduler, in place of `jobs`.

    Raises
    ------
    ConfigError
        When `jobs` is not positive, or both are given.
    """

    jobs: int | None = None
    cluster: str | None = None

    def __post_init__(self) -> None:
        """Check what can be known without the cluster."""
        if self.jobs is not None and self.jobs < 1:
            raise ConfigError("--jobs", "must be 1 or more", got=self.jobs, hint="give --jobs 2")
        if self.jobs is not None and self.cluster is not None:
            raise ConfigError(
                "--jobs, --cluster",
                "must not be given together",
                got=f"{self.jobs} and {self.cluster}",
                hint="a cluster has as many workers as were started: leave out --jobs",
            )

    @property
    def several(self) -> bool:
        """Whether others than this process work."""
        return self.cluster is not None or (self.jobs or 1) > 1


#: This process.
ALONE: Final = Workers()
