"""Models by name: the bundled ones, and public ones that are downloaded on request.

`digits-resnet18` and `gauges-resnet18` come with the package. The others are ImageNet classifiers
of the ONNX Model Zoo (https://github.com/onnx/models, Apache-2.0), fetched once into the user's
cache and checked against the checksums of the zoo's own ONNX_HUB_MANIFEST.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

import platformdirs

from flow.data.datasets import PICTURE_CHANNELS, Dataset, Preprocessing
from flow.data.digits import HARDER_DIGITS, digits, harder_digits
from flow.data.downloads import DownloadFailure, DownloadProgress, fetch, is_intact
from flow.data.gauges import gauges
from flow.data.pictures import MISSING, file_problem
from flow.frontend.importer import ImportedModel, import_model
from flow.frontend.onnx_file import Limits
from flow.input_request import InputRequest, read_sidecar
from relay_passes.scales.kept import Qdq
from vta_config.errors import DownloadError, UnsupportedModelError

DIGITS: Final = "digits-resnet18"
DIGITS_ONNX: Final = Path(__file__).parent / "digits_resnet18.onnx"
GAUGES: Final = "gauges-resnet18"
GAUGES_ONNX: Final = Path(__file__).parent / "gauges_resnet18.onnx"
#: Models that come with the package, and their files.
BUNDLED: Final[Mapping[str, Path]] = MappingProxyType({DIGITS: DIGITS_ONNX, GAUGES: GAUGES_ONNX})
#: Calibration images of the digits model, drawn from its training part.
DIGITS_CALIBRATION: Final = 125
DEFAULT_MODEL: Final = DIGITS
#: Where the zoo's files are; tried in this order. The zoo has moved from GitHub's large files to
#: Hugging Face.
MIRRORS: Final = (
    "https://huggingface.co/onnxmodelzoo/legacy_models/resolve/main/validated/vision/classification/",
    "https://github.com/onnx/models/raw/main/validated/vision/classification/",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ZooModel:
    """A public model: path below a mirror, sha256 and size of the file."""

    path: str
    sha256: str
    file_bytes: int


def _resnet(file: str, sha256: str, file_bytes: int) -> tuple[str, ZooModel]:
    """Describe one of the zoo's ResNets, named after its file."""
    return file, ZooModel(path=f"resnet/model/{file}.onnx", sha256=sha256, file_bytes=file_bytes)


ZOO: Final[Mapping[str, ZooModel]] = MappingProxyType(
    dict(
        [
            _resnet(
                "resnet18-v1-7",
                "4e8f8653e7a2222b3904cc3fe8e304cd8b339ce1d05fd24688162f86fb6df52c",
                46820737,
            ),
            _resnet(
                "resnet18-v2-7",
                "3b4d048057854022232aa20bf68262e31718ab7119a17f920b8a2dc1433f824b",
                46806737,
            ),
            _resnet(
                "resnet34-v1-7",
                "883a41b2e30ddc2e422c108b091b5e70b92d37dc5c345a2c563dcae27971e2cc",
                87302588,
            ),
            _resnet(
                "resnet34-v2-7",
                "3d3815e25f4b1ea967e2a526a3b27ef2a03af1725bdc199a63a271c26862d914",
                87288587,
            ),
            _resnet(
                "resnet50-v1-7",
                "af16a04a6ec48ac494065d4439fe9dea590d337b9ca6dc328160ccf04a217b9c",
                102583340,
            ),
            _resnet(
                "resnet50-v1-12",
                "3f03fdef724b22947eed826f1eef1dc5c34151bb4c37d634f1db89dfa2dd1526",
                102576593,
            ),
            _resnet(
                "resnet50-v2-7",
                "79102261eb6e5fd7af5d27f41316293e388c5cb691e5d25bfb035c4f64fefe31",
                102442452,
            ),
        ]
    )
)


def model_names() -> tuple[str, ...]:
    """List the names that `load_model` knows, the default first."""
    return (*BUNDLED, *ZOO)


def load_model(
    model: str | Path,
    *,
    mirrors: tuple[str, ...] = MIRRORS,
    cache: Path | None = None,
    progress: DownloadProgress | None = None,
    check: bool = True,
    limits: Limits | None = None,
    qdq: Qdq = "keep",
    request: InputRequest | None = None,
) -> ImportedModel:
    """Import a model by name (`model_names`) or by file (``.onnx``, ``.onnx.xz``).

    Parameters
    ----------
    model : str or path
        Name or file; a name wins over a file of the same name.
    mirrors : tuple of str
        Base URLs to download from, tried in order.
    cache : Path, optional
        Folder of downloads; the user's cache folder by default.
    progress : callable, optional
        Told how a download goes on.
    check : bool
        Compare the imported graph with ONNX Runtime; see `import_model`.
    limits : Limits, optional
        What a model may cost.
    qdq : {"keep", "requantize"}
        What becomes of a model that is quantized already; see `import_model`.
    request : InputRequest, optional
        What the user says of its input.

    Raises
    ------
    UnsupportedModelError
        When there is no such name or file, or the model cannot be imported.
    DownloadError
        When a named model cannot be fetched.
    """
    name, request = str(model), request or InputRequest()
    shapes, layout = request.wanted_shapes, request.layout
    if name in BUNDLED:
        return import_model(BUNDLED[name], name=name, check=check, shapes=shapes, layout=layout)
    if name in ZOO:
        path = download(name, mirrors=mirrors, cache=cache, progress=progress)
        return import_model(
            path, name=name, check=check, limits=limits, qdq=qdq, shapes=shapes, layout=layout
        )
    if file_problem(Path(name)) is not None and not name.endswith((".onnx", ".xz")):
        raise UnsupportedModelError(
            name,
            "must be an ONNX file or a known name",
            got="neither",
            hint=f"known names: {', '.join(model_names())}",
        )
    return import_model(name, check=check, limits=limits, qdq=qdq, shapes=shapes, layout=layout)


def picture_preprocessing(
    model: ImportedModel, request: InputRequest | None = None
) -> Preprocessing | None:
    """Return how pictures become the input; None for a model that takes none."""
    shape = model.input_shape
    takes_pictures = len(shape) == 4 and shape[1] in PICTURE_CHANNELS
    return preprocessing_of(model, request) if takes_pictures else None


def preprocessing_of(model: ImportedModel, request: InputRequest | None = None) -> Preprocessing:
    """Return how images become the input: ImageNet's recipe; those bundled are not cropped.

    What `request` says takes its place.
    """
    ratio = 1.0 if model.name in BUNDLED else 256 / 224
    return Preprocessing.for_input(model.input_shape, ratio=ratio, request=request)


def request_of(model: str | Path, request: InputRequest) -> InputRequest:
    """Return what the user says of a model's input, in options and in the file beside the model.

    Raises
    ------
    ConfigError
        When that file cannot be used.
    """
    if str(model) in model_names() or file_problem(Path(model)) is not None:
        return request
    return request.over(read_sidecar(Path(model)))


def bundled_data(model: ImportedModel) -> tuple[Dataset, Dataset] | None:
    """Return the evaluation and calibration images that come with a model, if any."""
    if model.name not in BUNDLED:
        return None
    preprocessing = preprocessing_of(model)
    if model.name == GAUGES:
        return gauges(preprocessing, held_out=True), gauges(preprocessing, held_out=False)
    calibration = digits(preprocessing, held_out=False).take(DIGITS_CALIBRATION, seed=0)
    return digits(preprocessing, held_out=True), calibration


def bundled_view(model: ImportedModel, name: Path) -> Dataset | None:
    """Return the harder view of the digits model's images, where `name` is it and no folder."""
    if model.name != DIGITS or str(name) != HARDER_DIGITS or file_problem(name) != MISSING:
        return None
    return harder_digits(preprocessing_of(model))


# ---- downloads ----------------------------------------------------------------------------------
def cache_folder(folder: Path | None = None) -> Path:
    """Return `folder`, or the user's cache folder of this project."""
    return folder if folder is not None else platformdirs.user_cache_path("vta-flow")


def download(
    name: str,
    *,
    mirrors: tuple[str, ...] = MIRRORS,
    cache: Path | None = None,
    progress: DownloadProgress | None = None,
) -> Path:
    """Fetch a Model Zoo file unless the cache already has it; return its path.

    The file appears in the cache only after its checksum matched.

    Raises
    ------
    DownloadError
        When no mirror gives the file: offline, missing there, of another size or checksum, or too
        slow; or the cache cannot be written.
    """
    entry = ZOO[name]
    folder = cache if cache is not None else cache_folder() / "models"
    path = folder / Path(entry.path).name
    failures: list[str] = []
    try:
        if is_intact(path, sha256=entry.sha256, file_bytes=entry.file_bytes):
            return path
        for mirror in mirrors:
            try:
                fetch(
                    f"{mirror.rstrip('/')}/{entry.path}",
                    path,
                    sha256=entry.sha256,
                    file_bytes=entry.file_bytes,
                    progress=progress,
                )
            except DownloadFailure as failure:
                host = mirror.split("//")[-1].split("/")[0]
                failures.append(f"{failure} from {host}")
            else:
                return path
    except OSError as error:
        failures.append(f"a cache that cannot be used ({error.strerror or error})")
    raise DownloadError(
        name,
        f"must be downloaded once ({entry.file_bytes / 1e6:.0f} MB)",
        got="; ".join(failures),
        hint=f"go online, or put the file at {path}, or give --model FILE.onnx",
    )
