"""What the machine is: its configuration, its instruction set and its errors."""

from vta_config.errors import FlowError
from vta_config.hardware import VTAConfig, preset_names

__all__ = ["FlowError", "VTAConfig", "preset_names"]
