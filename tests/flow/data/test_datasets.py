"""flow.data.datasets: folders, labels, preprocessing, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flow.data.datasets import ArraySource, Dataset, Preprocessing, image_folder
from flow.input_request import InputRequest
from vta_config.errors import CalibrationError, ConfigError

SMALL = Preprocessing(height=4, width=4, resize=5)


def write_image(path: Path, value: int = 128, size: tuple[int, int] = (6, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (value, value, value)).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for index, name in enumerate(("b.png", "a.png", "c.png")):
        write_image(tmp_path / name, 50 * index)
    (tmp_path / "labels.csv").write_text("filename,label_index\nb.png,2\na.png,0\nc.png,1\n")
    return tmp_path


# ---- preprocessing -------------------------------------------------------------------------------
def test_imagenet_recipe_follows_from_the_input_shape() -> None:
    recipe = Preprocessing.for_input((1, 3, 224, 224))
    assert (recipe.height, recipe.width, recipe.resize, recipe.channels) == (224, 224, 256, 3)
    assert Preprocessing.for_input((1, 1, 28, 28)).channels == 1


@pytest.mark.parametrize("shape", [(1, 7, 8, 8), (1, 10)])
def test_input_that_is_no_image_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(
        CalibrationError, match=r"model input: must have shape \[N, 1 or 3, H, W\] for "
    ):
        Preprocessing.for_input(shape)


def test_short_side_is_resized_and_centre_is_cropped() -> None:
    # A gradient along x: after resizing 16x8 -> 10x5 and cropping 4x4, the columns are 3..6.
    ramp = np.repeat(np.linspace(0, 240, 16).astype(np.uint8)[np.newaxis], 8, axis=0)
    out = SMALL.pixels(Image.fromarray(ramp))
    assert out.shape == (4, 4, 3)
    resized = np.asarray(Image.fromarray(ramp).resize((10, 5), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(out[..., 0], resized[0:4, 3:7])


def test_image_smaller_than_the_crop_is_enlarged() -> None:
    assert SMALL.pixels(Image.new("L", (2, 2), 9)).tolist() == [[[9] * 3] * 4] * 4


def test_normalization_matches_its_formula() -> None:
    out = SMALL(Image.new("RGB", (5, 5), (255, 0, 51)))
    assert out.shape == (1, 3, 4, 4) and out.dtype == np.float32 and out.flags.c_contiguous
    expected = [(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225]
    np.testing.assert_allclose(out[0, :, 1, 2], expected, rtol=1e-6)


# ---- folders -------------------------------------------------------------------------------------
def test_labels_csv_gives_order_and_labels(folder: Path) -> None:
    data = image_folder(folder, SMALL, classes=3)
    assert data.targets is not None and data.targets.tolist() == [2, 0, 1]
    values = [float(image[0, 0, 0, 0]) for image in data]
    assert values == sorted(values)  # b, a, c are 0, 50, 100
    assert len(data) == 3


def test_class_folders_are_labels(tmp_path: Path) -> None:
    for name in ("dog/x.jpg", "cat/y.jpg", "cat/z.JPEG"):
        write_image(tmp_path / name)
    data = image_folder(tmp_path, SMALL, classes=2)
    assert data.targets is not None and data.targets.tolist() == [0, 0, 1]


def test_numbered_class_folders_are_class_numbers(tmp_path: Path) -> None:
    write_image(tmp_path / "7" / "x.png")
    write_image(tmp_path / "12" / "x.png")
    data = image_folder(tmp_path, SMALL, classes=20)
    assert data.targets is not None and sorted(data.targets.tolist()) == [7, 12]


def test_flat_folder_has_no_labels(tmp_path: Path) -> None:
    write_image(tmp_path / "b.png", 1)
    write_image(tmp_path / "a.png", 2)
    (tmp_path / "notes.txt").write_text("not an image")
    data = image_folder(tmp_path, SMALL, classes=2)
    assert data.targets is None and len(data) == 2


def test_calibration_ignores_labels_that_do_not_fit(folder: Path) -> None:
    data = image_folder(folder, SMALL, classes=1, labelled=False)
    assert data.targets is None and len(data) == 3


def test_missing_folder(tmp_path: Path) -> None:
    sentence = r"nowhere: must be a folder of images, or .*, got nothing there; check the path"
    with pytest.raises(CalibrationError, match=sentence):
        image_folder(tmp_path / "nowhere", SMALL)
    write_image(tmp_path / "x.png")
    with pytest.raises(CalibrationError, match=r"must be a folder of images, .*, got another file"):
        image_folder(tmp_path / "x.png", SMALL)


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"must hold images, got none; suffixes: \.bmp"):
        image_folder(tmp_path, SMALL)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name,label\n", r"labels.csv line 1: must be filename,label_index, got 'name,label'"),
        ("", r"labels.csv line 1: must be filename,label_index, got ''"),
        (
            "filename,label_index\na.png,0\nd.png,1\n",
            r"line 3: must name an image in its folder, got d.png, which is missing; fix the row",
        ),
        (
            "filename,label_index\na.png,3\n",
            r"line 2: must be a class in \[0, 2\], got 3; these labels belong to another model",
        ),
        (
            "filename,label_index\na.png,-1\n",
            r"line 2: must be a file name and a class number, got 'a.png,-1'; e.g. cat.png,282",
        ),
        ("filename,label_index\na.png\n", r"line 2: must be a file name and a class number"),
        (
            "filename,label_index\na.png,0\n\na.png,0\n",
            r"line 4: must name every image once, got a.png again; remove one row",
        ),
        ("filename,label_index\n", r"must hold images, got none"),
    ],
)
def test_label_file_that_does_not_match(folder: Path, text: str, sentence: str) -> None:
    (folder / "labels.csv").write_text(text)
    with pytest.raises(CalibrationError, match=sentence):
        image_folder(folder, SMALL, classes=3)


def test_label_file_that_is_not_text(folder: Path) -> None:
    (folder / "labels.csv").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(CalibrationError, match=r"labels.csv: must be a CSV text file, got "):
        image_folder(folder, SMALL)


def test_class_folders_that_do_not_match(tmp_path: Path) -> None:
    for name in ("a/x.png", "b/x.png"):
        write_image(tmp_path / name)
    with pytest.raises(CalibrationError, match=r"must have one folder for each of the 3 classes"):
        image_folder(tmp_path, SMALL, classes=3)


def test_numbered_folders_that_do_not_match(tmp_path: Path) -> None:
    write_image(tmp_path / "5" / "x.png")
    with pytest.raises(CalibrationError, match=r"folders named after classes in \[0, 2\], got 5"):
        image_folder(tmp_path, SMALL, classes=3)


def test_folder_of_a_name_that_is_not_utf_8(tmp_path: Path) -> None:
    folder = tmp_path / os.fsdecode(b"b\xff\xc3\xa9\x1b")
    write_image(folder / os.fsdecode(b"\xe9.png"))
    data = image_folder(folder, SMALL)
    assert data.name == "b\\xffé\\x1b" and data[0].shape == (1, 3, 4, 4)


def test_folder_that_cannot_be_reached(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for name, problem in (("loop", "Too many levels"), ("n" * 5000, "File name too long")):
        with pytest.raises(CalibrationError, match=rf"must be a folder .*, got {problem}"):
            image_folder(tmp_path / name, SMALL)


def test_labels_csv_wins_over_class_folders(tmp_path: Path) -> None:
    for name in ("cat/x.png", "dog/y.png", "dog/z.png"):
        write_image(tmp_path / name)
    (tmp_path / "labels.csv").write_text("filename,label_index\ndog/y.png,0\ncat/x.png,0\n")
    data = image_folder(tmp_path, SMALL, classes=1)
    assert len(data) == 2 and data.targets is not None and data.targets.tolist() == [0, 0]
    (tmp_path / "labels.csv").unlink()
    (tmp_path / "labels.csv").symlink_to("nowhere")
    with pytest.raises(CalibrationError, match=r"labels.csv: must be a CSV text file, got a link"):
        image_folder(tmp_path, SMALL)


def test_unreadable_image(folder: Path) -> None:
    data = (folder / "a.png").read_bytes()
    (folder / "a.png").write_bytes(data[: len(data) // 2])
    dataset = image_folder(folder, SMALL)
    sentence = r"a.png: must be a readable image, got truncated or damaged \(.*; replace or remove"
    with pytest.raises(CalibrationError, match=sentence):
        dataset[1]
    (folder / "b.png").write_text("no image at all")
    with pytest.raises(CalibrationError, match=r"b.png: must be a readable image"):
        dataset[0]
    (folder / "c.png").unlink()
    with pytest.raises(CalibrationError, match=r"c.png: must be a readable image, got no such fi"):
        dataset[2]
    (folder / "c.png").mkdir()
    with pytest.raises(CalibrationError, match=r"c.png: must be a readable image, got a folder; r"):
        dataset[2]


# ---- choosing ------------------------------------------------------------------------------------
def test_take_draws_by_seed_and_keeps_the_order() -> None:
    images = np.arange(50, dtype=np.uint8)[:, np.newaxis, np.newaxis] * np.ones((1, 5, 5), np.uint8)
    data = Dataset(
        name="ramp", source=ArraySource(images), preprocessing=SMALL, labels=np.arange(50)
    )
    first, again, other = data.take(10, seed=1), data.take(10, seed=1), data.take(10, seed=2)
    assert first.indices == again.indices != other.indices
    assert first.targets is not None and (np.diff(first.targets) > 0).all() and len(first) == 10
    assert data.take(None) is data and data.take(50) is data
    nested = first.take(3, seed=5)
    assert nested.indices is not None and set(nested.indices) <= set(first.indices or ())
    with pytest.raises(CalibrationError, match=r"ramp: must keep at least 1 image, got 0; raise"):
        data.take(0)


def test_imagenet_folders(shared_data: Path) -> None:
    recipe = Preprocessing.for_input((1, 3, 224, 224))
    data = image_folder(shared_data / "data" / "imagenet_eval", recipe, classes=1000)
    assert len(data) == 1150 and data[0].shape == (1, 3, 224, 224)
    folder = shared_data / "data" / "imagenet_calib"
    assert len(image_folder(folder, recipe, labelled=False)) == 125


def test_16_bit_grey_is_scaled_not_clipped() -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    recipe = Preprocessing(height=8, width=8, resize=8, channels=3)
    deep = Image.fromarray(grey.astype(np.uint16) * 257)
    assert deep.mode == "I;16"
    np.testing.assert_array_equal(recipe.pixels(deep), recipe.pixels(Image.fromarray(grey)))


# ---- preprocessing that the user says ------------------------------------------------------------
def test_means_and_scales() -> None:
    shape = (1, 3, 4, 6)
    usual = Preprocessing.for_input(shape)
    assert usual == Preprocessing.for_input(shape, request=InputRequest())
    raw = Preprocessing.for_input(shape, request=InputRequest(scale=1.0))
    assert (raw.mean, raw.std, raw.scale) == ((0.0,) * 3, (1.0,) * 3, 1.0)
    half = Preprocessing.for_input(shape, request=InputRequest(mean=(0.5,), std=(0.5, 1, 2)))
    assert (half.mean, half.std, half.scale) == ((0.5,) * 3, (0.5, 1, 2), 1 / 255)
    pixels = np.array([[[0, 51, 255]]], np.uint8)
    np.testing.assert_allclose(raw.normalize(pixels).reshape(-1), [0, 51, 255])
    np.testing.assert_allclose(half.normalize(pixels).reshape(-1), [-1, -0.3, 0.25], rtol=1e-6)
    sentence = r"--mean: must be one number, or one for each of 3 channels, got \[1.0, 2.0\]; give"
    with pytest.raises(ConfigError, match=sentence):
        Preprocessing.for_input(shape, request=InputRequest(mean=(1.0, 2.0)))


def test_resizing_that_the_user_says() -> None:
    """A picture that is dark at the left and bright at the right."""
    columns = np.repeat(np.arange(12, dtype=np.uint8) * 20, 1)
    picture = Image.fromarray(np.broadcast_to(columns, (6, 12)).copy())
    shape = (1, 1, 4, 4)
    whole = Preprocessing.for_input(shape, request=InputRequest(crop="none"))
    assert (whole.resize, whole.pixels(picture).shape) == ((4, 4), (4, 4, 1))
    assert whole.pixels(picture)[0, 0, 0] < 40 and whole.pixels(picture)[0, 3, 0] > 180
    short = Preprocessing.for_input(shape, request=InputRequest(resize=(6,)))
    np.testing.assert_array_equal(short.pixels(picture)[0, :, 0], columns[4:8])
    both = Preprocessing.for_input(shape, request=InputRequest(resize=(4, 12)))
    np.testing.assert_array_equal(both.pixels(picture)[0, :, 0], columns[4:8])


def test_a_list_of_images(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / name)
    (tmp_path / "some.txt").write_text("c.png 1\na.png 0\n")
    data = image_folder(tmp_path / "some.txt", SMALL, classes=2)
    assert len(data) == 2 and data.targets is not None and data.targets.tolist() == [1, 0]
    assert image_folder(tmp_path / "some.txt", SMALL, labelled=False).targets is None
