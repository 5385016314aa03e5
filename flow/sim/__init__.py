"""The simulators and drivers that run programs, and the Python face of the C++ core."""

from flow.sim.core_library import load_library
from flow.sim.fsim import FSim

__all__ = ["FSim", "load_library"]
