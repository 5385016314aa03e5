"""flow.data.tensors: what arrays are taken for images, and what is refused."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flow.data import tensors
from flow.data.datasets import Dataset, Preprocessing, image_folder
from flow.data.tensors import RandomTensors, TensorSource, stored_arrays
from tests.flow.data.test_datasets import write_image
from vta_config.errors import CalibrationError

SHAPE = (1, 2, 3, 4)


def values(*shape: int, seed: int = 0) -> np.ndarray[Any, Any]:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def folder_of(root: Path) -> Dataset:
    return image_folder(root, None, shape=SHAPE, labelled=False)


# ---- what is read --------------------------------------------------------------------------------
def test_arrays_are_inputs_as_they_are(tmp_path: Path) -> None:
    one, batch, several = values(2, 3, 4), values(1, 2, 3, 4, seed=1), values(3, 2, 3, 4, seed=2)
    np.save(tmp_path / "b.npy", one)
    np.save(tmp_path / "a.npy", batch)
    (tmp_path / "sub").mkdir()
    np.save(tmp_path / "sub" / "c.npy", several)
    data = folder_of(tmp_path)
    assert len(data) == 5 and data.preprocessing is None and data.targets is None
    np.testing.assert_array_equal(np.concatenate(list(data)), [*batch, one, *several])
    assert {(x.shape, x.dtype.name, x.flags.c_contiguous) for x in data} == {
        (SHAPE, "float32", True)
    }
    np.testing.assert_array_equal(data.take(2, seed=1)[1], data[data.take(2, seed=1).indices[1]])  # type: ignore[index]


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives_hold_any_number_of_arrays(tmp_path: Path, save: Any) -> None:
    parts = {"z": values(2, 3, 4), "a": values(2, 2, 3, 4, seed=1), "empty": values(0, 2, 3, 4)}
    save(tmp_path / "x.NPZ.npz", **parts)
    data = folder_of(tmp_path)
    expected = [*parts["a"], parts["z"]]
    np.testing.assert_array_equal(np.concatenate(list(data)), expected)
    for index in (2, 0, 1, 0):  # in any order
        np.testing.assert_array_equal(data[index][0], expected[index])


@pytest.mark.parametrize("kind", ["float16", "float64", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_floats_of_every_kind_and_order(tmp_path: Path, kind: str, order: Any) -> None:
    array = np.asarray(values(2, *SHAPE[1:]).astype(np.float16), dtype=kind, order=order)
    np.save(tmp_path / "x.npy", array)
    np.testing.assert_array_equal(np.concatenate(list(folder_of(tmp_path))), array)


def test_labels_hold_for_all_images_of_a_file(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", values(2, 3, 4))
    np.save(tmp_path / "b.npy", values(2, 2, 3, 4))
    (tmp_path / "labels.csv").write_text("filename,label_index\nb.npy,3\na.npy,1\n")
    data = image_folder(tmp_path, None, shape=SHAPE, classes=4)
    assert data.targets is not None and data.targets.tolist() == [3, 3, 1]
    assert len(folder_of(tmp_path)) == 3 and folder_of(tmp_path).targets is None


def test_shape_is_that_of_the_preprocessing(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", values(3, 4, 4))
    assert len(image_folder(tmp_path, Preprocessing(height=4, width=4, resize=5))) == 1


# ---- what is refused -----------------------------------------------------------------------------
def refused(root: Path, sentence: str) -> None:
    with pytest.raises(CalibrationError, match=sentence):
        list(folder_of(root))


@pytest.mark.parametrize("shape", [(3, 4), (2, 4, 3), (3, 3, 4), (2, 2, 3, 5), (1, 1, 2, 3, 4)])
def test_another_shape(tmp_path: Path, shape: tuple[int, ...]) -> None:
    np.save(tmp_path / "x.npy", values(*shape))
    got = str(list(shape)).replace("[", r"\[").replace("]", r"\]")
    refused(
        tmp_path,
        r"^\S*x.npy: must have the shape \[2, 3, 4\] of the model's input, or \[N, 2, 3, 4\], got "
        rf"{got}; save the images as the network takes them$",
    )


@pytest.mark.parametrize("kind", ["uint8", "int64", "complex64", "bool", "S3", "object"])
def test_another_kind_of_numbers(tmp_path: Path, kind: str) -> None:
    np.save(tmp_path / "x.npy", np.zeros((2, 3, 4), kind), allow_pickle=True)
    got = np.dtype(kind).str.replace("|", r"\|") if kind == "S3" else kind
    refused(
        tmp_path,
        r"x.npy: must hold floats, the network's input after preprocessing, got "
        rf"{got}; preprocess the images and save them as float32, or give pictures$",
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_numbers_that_are_not_finite(tmp_path: Path, value: float) -> None:
    array = values(2, *SHAPE[1:]).astype(np.float64)
    array[1, 0, 0, :2] = value
    np.savez(tmp_path / "x.npz", images=array)
    refused(
        tmp_path,
        r"x.npz, images.npy, image 1: must hold finite float32 numbers, got 2 that are not; "
        "remove the image, or correct what wrote it",
    )
    (tmp_path / "x.npz").unlink()
    np.save(tmp_path / "x.npy", array[1])
    refused(tmp_path, r"x.npy: must hold finite float32 numbers, got 2 that are not")


@pytest.mark.parametrize("name", ["x.npy", "x.npz"])
def test_damaged_files(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    np.save(file, values(2, 3, 4)) if name == "x.npy" else np.savez(file, values(2, 3, 4))
    whole = file.read_bytes()
    sentence = rf"{name}.*: must be an array of numpy, got .*truncated.*; replace or remove it$"
    for part in (b"", whole[:5], whole[:60], whole[:-30]):
        file.write_bytes(part)
        refused(tmp_path, sentence)


def test_other_files_in_an_archive(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("notes.txt", "x")
    refused(
        tmp_path,
        r"x.npz, notes.txt: must be an array of a .npz file, got another file in the archive; write"
        " the archive with numpy.savez",
    )


def test_archive_of_too_many_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "MAX_MEMBERS", 1)
    np.savez(tmp_path / "x.npz", values(2, 3, 4), values(2, 3, 4))
    refused(tmp_path, r"x.npz: must hold at most 1 arrays, got 2; put several images into one")


def test_array_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tensors, "MAX_ARRAY_BYTES", 100)
    np.save(tmp_path / "x.npy", values(2, *SHAPE[1:]))
    refused(tmp_path, r"x.npy: must have at most 100 bytes, got 192; save fewer images in one arr")


def test_what_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match=r"x.npy: must be an array of numpy, got no such fi"):
        stored_arrays(tmp_path / "x.npy", SHAPE)


def test_file_that_changed_since(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", values(2, *SHAPE[1:]))
    source = TensorSource(stored_arrays(tmp_path / "x.npy", SHAPE), SHAPE)
    np.save(tmp_path / "x.npy", values(3, *SHAPE[1:]))
    with pytest.raises(CalibrationError, match=r"x.npy: must be .*, got another shape than before"):
        source.load(0)
    (tmp_path / "x.npy").unlink()
    source = replace(source)
    with pytest.raises(CalibrationError, match=r"x.npy: must be an array of numpy, got truncated"):
        source.load(0)


def test_pictures_and_tensors_do_not_mix(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    np.save(tmp_path / "b.npy", values(2, 3, 4))
    refused(
        tmp_path,
        r"\S+: must be pictures or float tensors \(.npy, .npz\), not both, got a.png and b.npy; "
        "separate them$",
    )


def test_network_that_takes_no_pictures(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png")
    refused(tmp_path, r"model input: must have shape \[N, 1 or 3, H, W\] for images, got "
            r"\[1, 2, 3, 4\]; export .* or give images as .npy files$")  # fmt: skip


def test_empty_arrays_are_no_images(tmp_path: Path) -> None:
    np.save(tmp_path / "b.npy", values(0, 2, 3, 4))
    refused(tmp_path, r"must hold images, got none; suffixes: .bmp, .*, .npy, .npz, ")


@pytest.mark.parametrize("shape", [(640,), (3, 20), (2, 3, 4, 5)])
def test_tensors_of_other_dimensions(tmp_path: Path, shape: tuple[int, ...]) -> None:
    one, two = values(*shape), values(2, *shape) + 1
    np.save(tmp_path / "a.npy", one)
    np.save(tmp_path / "b.npy", two)
    data = image_folder(tmp_path, None, shape=(1, *shape))
    assert len(data) == 3 and data[0].shape == (1, *shape)
    np.testing.assert_array_equal(np.concatenate(list(data)), np.concatenate([one[None], two]))


def test_channels_last_as_the_file_has_them(tmp_path: Path) -> None:
    """Arrays of either layout are taken, where they can be told apart."""
    first, last = values(2, 3, 4), values(2, 3, 4, 2)
    np.save(tmp_path / "a.npy", first)
    np.save(tmp_path / "b.npy", last)
    np.save(tmp_path / "c.npy", last[0])
    data = image_folder(tmp_path, None, shape=SHAPE, file_shape=(1, 3, 4, 2))
    assert [image.shape for image in data] == [SHAPE] * 4
    np.testing.assert_array_equal(data[0][0], first)
    np.testing.assert_array_equal(data[2], last[1:].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(data[3], last[:1].transpose(0, 3, 1, 2))
    np.save(tmp_path / "d.npy", values(5, 5, 5))
    sentence = r"must have the shape \[3, 4, 2\] of the model's input, or \[N, 3, 4, 2\], got"
    with pytest.raises(CalibrationError, match=sentence):
        image_folder(tmp_path, None, shape=SHAPE, file_shape=(1, 3, 4, 2))


def test_random_tensors_are_always_the_same() -> None:
    data = RandomTensors(shape=(1, 2, 3), count=2)
    assert len(data) == 2 and data.where(1) == "random tensor 1"
    assert data.load(0).dtype == np.float32 and data.load(0).shape == (1, 2, 3)
    np.testing.assert_array_equal(data.load(1), data.load(1))
    assert not np.array_equal(data.load(0), data.load(1))
