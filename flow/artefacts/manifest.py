"""The manifest of a folder that can be deployed: what its files are, and how to use them.

``manifest.json`` names every file with its SHA-256, the network's inputs and outputs, how pictures
become an input, how an input becomes the integers of the programs, the machine, and the versions
that all this was made by. docs/artefacts.md describes each key.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from flow.artefacts.reading import Reading
from flow.data.datasets import Preprocessing
from flow.frontend.inputs import ModelInput
from flow.outputs import Output, classes_of
from vta_config.errors import ArtifactError, ConfigError
from vta_config.hardware import VTAConfig

MANIFEST_FILE: Final = "manifest.json"
LIBRARY_FILE: Final = "library.so"
PLAN_FILE: Final = "plan.json"
SCALES_FILE: Final = "scales.txt"
PROGRAM_SUFFIX: Final = ".vta"
#: Of this version of the manifest; readers refuse a newer one.
SCHEMA_VERSION: Final = 1
MOST_MANIFEST_BYTES: Final = 1 << 24
_LAYOUTS: Final = ("NCHW", "NHWC")


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFile:
    """A file of the folder.

    Parameters
    ----------
    file : str
        Its name in the folder.
    sha256 : str
        Of its bytes, in hexadecimal.
    """

    file: str
    sha256: str

    @classmethod
    def read(cls, of: Reading) -> StoredFile:
        """Read it from a manifest."""
        return cls(file=of.file_name("file"), sha256=of.digest("sha256"))


@dataclass(frozen=True, slots=True, kw_only=True)
class InputTensor:
    """An input of a program that is an input of the network, quantized.

    q = clip(floor(x * multiplier + 0.5) + zero_point, qmin, qmax), in float32.

    Parameters
    ----------
    program : str
        Symbol of the program.
    position : int
        Of the tensor among the inputs of the program.
    name : str
        The tensor's name.
    shape : tuple[int, int, int, int]
        NCHW, as the program has it; the same numbers in the same order as the network's input.
    scale : float
        What one unit of the integers stands for.
    multiplier : float
        1 / scale as a float32, which is what the host multiplies by.
    zero_point, qmin, qmax : int
    """

    program: str
    position: int
    name: str
    shape: tuple[int, ...]
    scale: float
    multiplier: float
    zero_point: int
    qmin: int
    qmax: int

    @classmethod
    def read(cls, of: Reading) -> InputTensor:
        """Read it from a manifest."""
        return cls(
            program=of.text("program"),
            position=of.integer("position", 0, 255),
            name=of.text("name"),
            shape=of.shape("shape", 4),
            scale=of.number("scale", positive=True),
            multiplier=of.number("multiplier", positive=True),
            zero_point=of.integer("zero_point", -128, 127),
            qmin=of.integer("qmin", -128, 127),
            qmax=of.integer("qmax", -128, 127),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputTensor:
    """An output of a program that is a result of the network, but for its scale.

    x = (q - zero_point) * scale, in float32.

    Parameters
    ----------
    program : str
        Symbol of the program.
    position : int
        Of the tensor among the outputs of the program.
    name : str
        The tensor's name.
    dtype : {"int8", "int32"}
    shape : tuple[int, int, int, int]
        NCHW, as the program has it; the same numbers in the same order as the network's output.
    scale : tuple of float
        One, or one for each channel.
    zero_point : int
    """

    program: str
    position: int
    name: str
    dtype: str
    shape: tuple[int, ...]
    scale: tuple[float, ...]
    zero_point: int

    @classmethod
    def read(cls, of: Reading) -> OutputTensor:
        """Read it from a manifest."""
        shape = of.shape("shape", 4)
        return cls(
            program=of.text("program"),
            position=of.integer("position", 0, 255),
            name=of.text("name"),
            dtype=of.choice("dtype", ("int8", "int32")),
            shape=shape,
            scale=of.numbers("scale", (1, shape[1])),
            zero_point=of.integer("zero_point", -(1 << 31), (1 << 31) - 1),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkInput:
    """An input of the network.

    Parameters
    ----------
    given : ModelInput
        Its name, shape and layout.
    tensors : tuple of InputTensor
        The inputs of programs that are this input, quantized.
    """

    given: ModelInput
    tensors: tuple[InputTensor, ...]

    @classmethod
    def read(cls, of: Reading) -> NetworkInput:
        """Read it from a manifest."""
        of.choice("dtype", ("float32",))
        given = ModelInput(
            name=of.text("name"),
            shape=of.shape("shape"),
            file_shape=of.shape("file_shape"),
            layout="NHWC" if of.choice("layout", _LAYOUTS) == "NHWC" else "NCHW",
        )
        tensors = tuple(InputTensor.read(each) for each in of.objects("tensors"))
        for tensor in tensors:
            _check_elems(of, "tensors", tensor.shape, given.shape)
        return cls(given=given, tensors=tensors)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkOutput:
    """A result of the network.

    Parameters
    ----------
    name : str
        As in the ONNX file.
    shape : tuple of int
        For one image.
    tensor : OutputTensor, optional
        The output of a program that it is, scaled; None where the host computes more than that.
    """

    name: str
    shape: tuple[int, ...]
    tensor: OutputTensor | None

    @classmethod
    def read(cls, of: Reading) -> NetworkOutput:
        """Read it from a manifest."""
        of.choice("dtype", ("float32",))
        shape, place = of.shape("shape"), of.optional("tensor")
        tensor = None if place is None else OutputTensor.read(place)
        if tensor is not None:
            _check_elems(of, "tensor", tensor.shape, shape)
        return cls(name=of.text("name"), shape=shape, tensor=tensor)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredProgram:
    """A program of the folder, by the name that the library calls it.

    Parameters
    ----------
    symbol : str
    stored : StoredFile
    outputs : tuple of OutputTensor
        Those that the host makes floats of, whatever it does with them then.
    """

    symbol: str
    stored: StoredFile
    outputs: tuple[OutputTensor, ...]

    @classmethod
    def read(cls, of: Reading) -> StoredProgram:
        """Read it from a manifest."""
        return cls(
            symbol=of.text("symbol"),
            stored=StoredFile.read(of),
            outputs=tuple(OutputTensor.read(each) for each in of.objects("outputs")),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLibrary:
    """The TVM library: the host's code, with all programs in it.

    Parameters
    ----------
    stored : StoredFile
    platform : str
        Of the host that it runs on: "Linux x86_64".
    """

    stored: StoredFile
    platform: str

    @classmethod
    def read(cls, of: Reading) -> StoredLibrary:
        """Read it from a manifest."""
        return cls(stored=StoredFile.read(of), platform=of.text("platform"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What ``manifest.json`` says.

    Parameters
    ----------
    model, model_sha256, variant : str
        Name and SHA-256 of the ONNX model, and the variant that it was quantized by.
    machine : VTAConfig
        That all programs are for.
    inputs : tuple of NetworkInput
    outputs : tuple of NetworkOutput
    preprocessing : Preprocessing, optional
        How pictures become the input; None for a network that takes none.
    programs : tuple of StoredProgram
        In the order in which they run.
    library : StoredLibrary, optional
        None where there was no compiler to link it.
    plan : StoredFile, optional
        The quantization plan; None for stock Relay's quantization.
    scales : StoredFile, optional
        Scales and zero points as the board runner reads them; None where there is not one program.
    versions : dict of str to str
        Of what made it.
    """

    model: str
    model_sha256: str
    variant: str
    machine: VTAConfig
    inputs: tuple[NetworkInput, ...]
    outputs: tuple[NetworkOutput, ...]
    preprocessing: Preprocessing | None
    programs: tuple[StoredProgram, ...]
    library: StoredLibrary | None
    plan: StoredFile | None
    scales: StoredFile | None
    versions: Mapping[str, str]

    @property
    def tensors(self) -> tuple[InputTensor, ...]:
        """The inputs of programs that are inputs of the network, in call order."""
        found = (tensor for own in self.inputs for tensor in own.tensors)
        return tuple(sorted(found, key=lambda tensor: tensor.position))

    @property
    def network_inputs(self) -> tuple[ModelInput, ...]:
        """The inputs as data sets know them."""
        return tuple(own.given for own in self.inputs)

    @property
    def network_outputs(self) -> tuple[Output, ...]:
        """The outputs as tables and metrics know them."""
        return tuple(Output(name=o.name, shape=o.shape) for o in self.outputs)

    @property
    def classes(self) -> int | None:
        """Number of classes, None where it is no classifier."""
        return classes_of(self.network_outputs)

    def needs_library(self, inputs: Sequence[Sequence[str]]) -> bool:
        """Tell whether the host does more than quantize the input and scale the results.

        Parameters
        ----------
        inputs : sequence of sequences of str
            Names of the inputs of each program.
        """
        return not self._reads_inputs(inputs) or any(o.tensor is None for o in self.outputs)

    def is_one_program(self, inputs: Sequence[Sequence[str]], outputs: int) -> bool:
        """Tell whether one program does all but quantizing, scaling, and what is behind that.

        Parameters
        ----------
        inputs : sequence of sequences of str
            Names of the inputs of each program.
        outputs : int
            Outputs of the first program.
        """
        if not self._reads_inputs(inputs):
            return False
        return [tensor.position for tensor in self.programs[0].outputs] == list(range(outputs))

    def _reads_inputs(self, inputs: Sequence[Sequence[str]]) -> bool:
        """Whether there is one program, all of whose inputs are inputs of the network."""
        if len(self.programs) != 1:
            return False
        return [tensor.position for tensor in self.tensors] == list(range(len(inputs[0])))

    # ---- JSON ----------------------------------------------------------------------------------
    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values, keys in a fixed order."""
        return {
            "schema_version": SCHEMA_VERSION,
            "model": {"name": self.model, "sha256": self.model_sha256, "variant": self.variant},
            "machine": self.machine.to_json(),
            "inputs": [
                {
                    "name": own.given.name,
                    "dtype": "float32",
                    "shape": list(own.given.shape),
                    "layout": own.given.layout,
                    "file_shape": list(own.given.file_shape),
                    "tensors": [{**asdict(t), "dtype": "int8"} for t in own.tensors],
                }
                for own in self.inputs
            ],
            "outputs": [
                {
                    "name": output.name,
                    "dtype": "float32",
                    "shape": list(output.shape),
                    "tensor": None if output.tensor is None else asdict(output.tensor),
                }
                for output in self.outputs
            ],
            "preprocessing": None if self.preprocessing is None else asdict(self.preprocessing),
            "programs": [
                {
                    "symbol": p.symbol,
                    **asdict(p.stored),
                    "outputs": [asdict(tensor) for tensor in p.outputs],
                }
                for p in self.programs
            ],
            "library": self.library
            and {**asdict(self.library.stored), "platform": self.library.platform},
            "plan": self.plan and asdict(self.plan),
            "scales": self.scales and asdict(self.scales),
            "versions": dict(self.versions),
        }

    @classmethod
    def from_bytes(cls, data: bytes, where: str) -> Manifest:
        """Read what `to_json` wrote.

        Raises
        ------
        ArtifactError
            When it is anything else, or of a newer version.
        """
        of = Reading.of_bytes(data, where)
        version = of.integer("schema_version", 1, 1 << 31)
        if version > SCHEMA_VERSION:
            raise ArtifactError(
                where,
                f"must have a schema_version of at most {SCHEMA_VERSION}",
                got=version,
                hint="use a newer vta-flow, or deploy again",
            )
        try:
            machine = VTAConfig.from_json(of.object("machine").values)
        except ConfigError as error:
            raise of.wrong("machine", "be a machine", error) from None
        inputs = tuple(NetworkInput.read(each) for each in of.objects("inputs"))
        if not inputs:
            raise of.wrong("inputs", "be at least one input", "none")
        model = of.object("model")
        keys = ("preprocessing", "library", "plan", "scales")
        pictures, library, plan, scales = map(of.optional, keys)
        preprocessing = None if pictures is None else _preprocessing(pictures)
        if preprocessing is not None:
            made = (1, preprocessing.channels, preprocessing.height, preprocessing.width)
            if [own.given.shape for own in inputs] != [made]:
                raise of.wrong("preprocessing", "make the shape of the input", list(made))
        return cls(
            model=model.text("name"),
            model_sha256=model.digest("sha256"),
            variant=model.text("variant"),
            machine=machine,
            inputs=inputs,
            outputs=tuple(NetworkOutput.read(each) for each in of.objects("outputs")),
            preprocessing=preprocessing,
            programs=tuple(StoredProgram.read(each) for each in of.objects("programs")),
            library=None if library is None else StoredLibrary.read(library),
            plan=None if plan is None else StoredFile.read(plan),
            scales=None if scales is None else StoredFile.read(scales),
            versions=of.object("versions").texts(),
        )

    def to_bytes(self) -> bytes:
        """Return the file."""
        return (json.dumps(self.to_json(), indent=2) + "\n").encode()


def _check_elems(of: Reading, key: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> None:
    """Check that a tensor of a program has the numbers of the network's."""
    if math.prod(found) != math.prod(wanted):
        raise of.wrong(key, f"have as many numbers as {list(wanted)}", list(found))


def _preprocessing(of: Reading) -> Preprocessing:
    """Read how pictures become the input."""
    channels = of.integer("channels", 1, 3)
    std = of.numbers("std", (channels,))
    if 0 in std:
        raise of.wrong("std", "not be 0", list(std))
    resize = of.values.get("resize")
    size: int | tuple[int, int]
    if isinstance(resize, list):
        height, width = of.shape("resize", 2)
        size = height, width
    else:
        size = of.integer("resize", 1, 1 << 16)
    return Preprocessing(
        height=of.integer("height", 1, 1 << 16),
        width=of.integer("width", 1, 1 << 16),
        resize=size,
        channels=channels,
        mean=of.numbers("mean", (channels,)),
        std=std,
        scale=of.number("scale"),
    )
