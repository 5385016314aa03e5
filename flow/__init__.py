"""What happens, in order: import, passes, compiler, simulators, evaluation and report.

The names in `__all__` are stable (docs/api.md). Each is imported when it is first asked for, since
TVM takes seconds to load and the command line seldom needs all; ``__init__.pyi`` has their types.
`flow.deploy.deploy` is stable, too; here its name is that of the module.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

#: Of the package; pyproject.toml reads it here.
__version__: Final = "0.1.0"
#: Stable name -> the module that has it.
_HOMES: Final = {
    "CompiledModel": "flow.compiled_model",
    "Dataset": "flow.data.datasets",
    "FlowError": "vta_config.errors",
    "OnnxRuntime": "flow.results.evaluate",
    "Options": "flow.options",
    "Pipeline": "flow.pipeline",
    "Preprocessing": "flow.data.datasets",
    "Program": "flow.program.program",
    "ProgramSim": "flow.sim.program_sim",
    "Stages": "flow.stages",
    "TSim": "flow.sim.tsim",
    "VTAConfig": "vta_config.hardware",
    "bundled_data": "flow.data.models",
    "image_folder": "flow.data.datasets",
    "load_model": "flow.data.models",
    "measure": "flow.results.evaluate",
    "run_all": "flow.results.evaluate",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Import a stable name.

    Raises
    ------
    AttributeError
        When there is no such name.
    """
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the stable names, too."""
    return sorted({*globals(), *_HOMES})
