"""relax.ext.vta: the hook by which Relax turns annotated functions into runtime modules."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import tvm_ffi
from tvm import relax

from flow.compiler.link import make_program
from flow.compiler.lower import lower
from flow.compiler.search import Compiling
from flow.program.program import Program
from flow.sim.core_library import core_function
from flow.system.limits import UNLIMITED
from relay_passes.host.run import compile_for_host
from relay_passes.host.schedule import FuseRounding, ScheduleConvs
from relay_passes.partition.read import CODEGEN, subgraph_of
from vta_config.hardware import VTAConfig

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from flow.compiler.search import Each
    from flow.compiler.shapes import Objective
    from relay_passes.partition.read import FoundLayers

CODEGEN_FUNCTION: Final = f"relax.ext.{CODEGEN}"
#: Options of relax.transform.RunCodegen: the machine as JSON, and program files by symbol.
CONFIG_OPTION: Final = "config"
PROGRAMS_OPTION: Final = "programs"


def compile_function(
    function: Any,
    config: VTAConfig,
    schedules: Path | None = None,
    objective: Objective = "balanced",
    found: FoundLayers | None = None,
    each: Each = map,
) -> Program:
    """Compile one annotated function for `config`.

    Parameters
    ----------
    function : relax.Function
    config : VTAConfig
    schedules : Path, optional
        Search tilings with tsim and keep them in this file; by default the cost model chooses.
    objective : {"balanced", "latency"}
        What the forms of inputs are chosen by: cycles and bytes, or cycles alone.
    found : FoundLayers, optional
        The layers that the function was made of, where they are known.
    each : callable (function, items), optional
        Yields ``function(item)`` of each layer that is searched, in order.

    Raises
    ------
    CapacityError
        When a layer does not fit the machine.
    UnsupportedModelError
        When a post-op needs what the machine does not have.
    """
    subgraph = subgraph_of(function, config, found)
    compiling = Compiling(objective=objective, schedules=schedules)
    schedule = compiling.schedule(subgraph, config, each)
    return make_program(subgraph, lower(subgraph, config, schedule), config)


@tvm_ffi.register_global_func(CODEGEN_FUNCTION)
def _codegen(functions: Sequence[Any], options: Any, constant_names: Any) -> list[Any]:
    """Return one runtime module for each annotated function (the form TVM calls)."""
    create = core_function("vta.create_module")
    ready = options.get(PROGRAMS_OPTION, {})
    modules = []
    for function in functions:
        symbol = str(function.attrs["global_symbol"])
        if symbol not in ready:
            config = VTAConfig.from_json(json.loads(str(options[CONFIG_OPTION])))
            data = compile_function(function, config).to_bytes()
        else:
            data = bytes(ready[symbol])
        modules.append(create(symbol, data, UNLIMITED.max_steps, UNLIMITED.max_bytes))
    return modules


def build(partitioned: Any, config: VTAConfig, programs: Sequence[Program] = ()) -> Any:
    """Build a partitioned module: VTA programs inside an ordinary TVM executable.

    Parameters
    ----------
    partitioned : tvm.IRModule
        As `relay_passes.partition.partition.partition` returned it.
    config : VTAConfig
        The machine.
    programs : sequence of Program
        What `compile_function` made of the module's functions before; others are compiled here.

    Returns
    -------
    tvm.relax.VMExecutable
        `relax.VirtualMachine` runs it; `export_library` keeps it.
    """
    options = {
        CONFIG_OPTION: json.dumps(config.to_json()),
        PROGRAMS_OPTION: {program.symbol: program.to_bytes() for program in programs},
    }
    with_code = relax.transform.RunCodegen({CODEGEN: options})(partitioned)
    return compile_for_host(FuseRounding()(ScheduleConvs()(with_code)), "llvm")
