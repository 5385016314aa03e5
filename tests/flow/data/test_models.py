"""flow.data.models: names, downloads from a local server, and what goes wrong with them."""

from __future__ import annotations

import functools
import hashlib
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from flow.data import models
from flow.data.models import (
    DIGITS,
    GAUGES,
    GAUGES_ONNX,
    ZOO,
    ZooModel,
    bundled_data,
    download,
    load_model,
    model_names,
    preprocessing_of,
    request_of,
)
from flow.input_request import InputRequest
from tests.flow.onnx_models import save, tiny_model
from vta_config.errors import DownloadError, UnsupportedModelError


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    """Serve files and write nothing."""

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Serve a folder on this machine; yield its address and the folder."""
    root = tmp_path / "served"
    root.mkdir()
    handler = functools.partial(QuietHandler, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{httpd.server_address[1]}/zoo/", root / "zoo"
        httpd.shutdown()
        thread.join()


@pytest.fixture
def tiny_zoo(server: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> tuple[str, Path]:
    """Make the zoo one small model called ``tiny``, and serve it."""
    url, root = server
    file = root / "a" / "tiny.onnx"
    file.parent.mkdir(parents=True)
    data = save(tiny_model(), file).read_bytes()
    entry = ZooModel(
        path="a/tiny.onnx", sha256=hashlib.sha256(data).hexdigest(), file_bytes=len(data)
    )
    monkeypatch.setattr(models, "ZOO", {"tiny": entry})
    return url, file


def test_every_zoo_entry_is_whole() -> None:
    assert "resnet18-v1-7" in ZOO and model_names()[0] == DIGITS
    for name, entry in ZOO.items():
        assert entry.path == f"resnet/model/{name}.onnx"
        assert len(bytes.fromhex(entry.sha256)) == 32 and entry.file_bytes > 40_000_000


def test_download_once_then_from_the_cache(tiny_zoo: tuple[str, Path], tmp_path: Path) -> None:
    url, file = tiny_zoo
    seen: list[tuple[int, int]] = []
    cache = tmp_path / "cache"

    def progress(done: int, total: int) -> None:
        seen.append((done, total))

    model = load_model("tiny", mirrors=(url,), cache=cache, progress=progress)
    assert model.name == "tiny" and model.sha256 == models.ZOO["tiny"].sha256
    assert seen and max(done for done, _ in seen) == models.ZOO["tiny"].file_bytes
    file.unlink()
    again = load_model("tiny", mirrors=(url,), cache=cache)
    assert again.path == model.path == cache / "tiny.onnx"


def test_next_mirror_is_tried(tiny_zoo: tuple[str, Path], tmp_path: Path) -> None:
    url, _ = tiny_zoo
    path = download("tiny", mirrors=(f"{url}nowhere/", url), cache=tmp_path)
    assert path.is_file()


def test_damaged_cache_is_fetched_again(tiny_zoo: tuple[str, Path], tmp_path: Path) -> None:
    (tmp_path / "tiny.onnx").write_bytes(b"half a fi")
    assert load_model("tiny", mirrors=(tiny_zoo[0],), cache=tmp_path).classes == 5


def test_wrong_checksum(tiny_zoo: tuple[str, Path], tmp_path: Path) -> None:
    url, file = tiny_zoo
    file.write_bytes(bytes(file.stat().st_size))
    cache = tmp_path / "cache"
    sentence = (
        r"tiny: must be downloaded once \(0 MB\), got a file with another checksum from "
        r"127.0.0.1:\d+; go online, or put the file at .*tiny.onnx, or give --model FILE.onnx"
    )
    with pytest.raises(DownloadError, match=sentence):
        download("tiny", mirrors=(url,), cache=cache)
    assert not list(cache.iterdir())  # nothing half-written


def test_larger_file_than_known(tiny_zoo: tuple[str, Path], tmp_path: Path) -> None:
    url, file = tiny_zoo
    with file.open("ab") as more:
        more.truncate(1 << 32)
    sentence = r"got a file of 4294967296 instead of [\d,]+ bytes from 127.0.0.1:\d+; go online"
    with pytest.raises(DownloadError, match=sentence):
        download("tiny", mirrors=(url,), cache=tmp_path / "cache")
    assert not list((tmp_path / "cache").iterdir())


def test_missing_on_the_server(tiny_zoo: tuple[str, Path], tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"got HTTP 404 from 127.0.0.1:\d+; go online"):
        download("tiny", mirrors=(f"{tiny_zoo[0]}nowhere/",), cache=tmp_path)


def test_offline(tmp_path: Path) -> None:
    # Port 9 (discard) of this machine has no listener: the same error as without a network.
    mirrors = ("http://127.0.0.1:9/a/", "http://127.0.0.1:9/b/")
    sentence = (
        r"^resnet18-v1-7: must be downloaded once \(47 MB\), got no answer from 127.0.0.1:9; "
        r"no answer from 127.0.0.1:9; go online"
    )
    with pytest.raises(DownloadError, match=sentence):
        load_model("resnet18-v1-7", mirrors=mirrors, cache=tmp_path)


def test_cache_that_cannot_be_written(tiny_zoo: tuple[str, Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DownloadError, match=r"got a cache that cannot be used \("):
        download("tiny", mirrors=(tiny_zoo[0],), cache=tmp_path / "file" / "cache")


def test_unknown_name(tmp_path: Path) -> None:
    sentence = r"resnet19: must be an ONNX file or a known name, got neither; known names: digits-"
    with pytest.raises(UnsupportedModelError, match=sentence):
        load_model("resnet19")
    with pytest.raises(UnsupportedModelError, match=r"nnn: must be an ONNX file or a known name"):
        load_model("n" * 5000)
    with pytest.raises(UnsupportedModelError, match=r"x.onnx: must be an ONNX file, got no such"):
        load_model(tmp_path / "x.onnx")


def test_embedded_model_brings_its_images() -> None:
    model = load_model(DIGITS)
    assert model.name == DIGITS and model.classes == 10 and model.input_shape == (1, 3, 32, 32)
    parts = bundled_data(model)
    assert parts is not None
    evaluation, calibration = parts
    assert (len(evaluation), len(calibration)) == (599, 125)
    assert not set(evaluation.indices or ()) & set(calibration.indices or ())
    assert preprocessing_of(model).resize == 32


def test_the_gauges_bring_theirs() -> None:
    model = load_model(GAUGES)
    assert model.name == GAUGES and model.classes == 200 and model.input_shape == (1, 3, 32, 32)
    parts = bundled_data(model)
    assert parts is not None and [len(part) for part in parts] == [2000, 125]
    assert GAUGES_ONNX.stat().st_size < 1_000_000
    assert GAUGES in model_names() and model_names()[0] == DIGITS


def test_other_models_bring_none(tmp_path: Path) -> None:
    model = load_model(save(tiny_model(), tmp_path / "m.onnx"))
    assert bundled_data(model) is None and preprocessing_of(model).resize == 9


def test_the_file_beside_a_model_is_read_for_files_alone(tmp_path: Path) -> None:
    (tmp_path / "net.input.json").write_text('{"mean": 0.5}')
    assert request_of(tmp_path / "net.onnx", InputRequest()) == InputRequest()  # no such model
    (tmp_path / "net.onnx").touch()
    assert request_of(tmp_path / "net.onnx", InputRequest()).mean == (0.5,)
    for name in (DIGITS, GAUGES):
        assert request_of(name, InputRequest(scale=1.0)) == InputRequest(scale=1.0)
