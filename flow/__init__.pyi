from flow.compiled_model import CompiledModel as CompiledModel
from flow.data.datasets import (
    Dataset as Dataset,
)
from flow.data.datasets import (
    Preprocessing as Preprocessing,
)
from flow.data.datasets import (
    image_folder as image_folder,
)
from flow.data.models import bundled_data as bundled_data
from flow.data.models import load_model as load_model
from flow.options import Options as Options
from flow.pipeline import Pipeline as Pipeline
from flow.program.program import Program as Program
from flow.results.evaluate import OnnxRuntime as OnnxRuntime
from flow.results.evaluate import measure as measure
from flow.results.evaluate import run_all as run_all
from flow.sim.program_sim import ProgramSim as ProgramSim
from flow.sim.tsim import TSim as TSim
from flow.stages import Stages as Stages
from vta_config.errors import FlowError as FlowError
from vta_config.hardware import VTAConfig as VTAConfig

__version__: str
__all__ = [
    "CompiledModel",
    "Dataset",
    "FlowError",
    "OnnxRuntime",
    "Options",
    "Pipeline",
    "Preprocessing",
    "Program",
    "ProgramSim",
    "Stages",
    "TSim",
    "VTAConfig",
    "bundled_data",
    "image_folder",
    "load_model",
    "measure",
    "run_all",
]
