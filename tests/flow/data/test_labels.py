"""flow.data.labels: which files count as images, once each, and labels of every spelling."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flow.data.labels import MAX_LINE_CHARS, images_in, read_class_folders, read_labels, read_list
from tests.flow.data.test_pictures import unprivileged  # noqa: F401  # a fixture
from vta_config.errors import CalibrationError

HEADER = "filename,label_index\n"


def touch(root: Path, *names: str) -> None:
    """Make empty files: listing does not open them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in images_in(root)]


# ---- images --------------------------------------------------------------------------------------
def test_images_are_found_by_suffix_and_sorted(tmp_path: Path) -> None:
    wanted = ["B.PNG", "a.Jpeg", "b.gif", "c.pgm", "sub/a.tiff", "sub/x.npy", "sub/z.webp"]
    touch(tmp_path, *wanted, "d.NPZ", "notes.txt", "labels.csv", "png", "sub/x.np")
    wanted.append("d.NPZ")
    assert names(tmp_path) == sorted(wanted)


def test_hidden_files_do_not_count(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "._a.png", ".b.png", ".cache/c.png", "__MACOSX/._a.png")
    assert names(tmp_path) == ["a.png"]
    touch(tmp_path, ".set/d.png")
    assert names(tmp_path / ".set") == ["d.png"]  # the user's own choice


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    touch(tmp_path, "store/a.png", "set/b.png")
    (tmp_path / "set" / "linked").symlink_to("../store")
    (tmp_path / "set" / "again").symlink_to("../store")
    (tmp_path / "set" / "loop").symlink_to(".")
    (tmp_path / "set" / "up").symlink_to("..")
    (tmp_path / "store" / "back").symlink_to("../set")
    assert names(tmp_path / "set") == ["again/a.png", "b.png"]


def test_what_only_has_the_name_of_an_image(tmp_path: Path) -> None:
    touch(tmp_path, "folder.png/a.png")
    assert names(tmp_path) == ["folder.png/a.png"]
    os.mkfifo(tmp_path / "pipe")
    assert len(names(tmp_path)) == 1
    (tmp_path / "x.png").symlink_to("nowhere")
    with pytest.raises(CalibrationError, match=r"x\.png: must be an image, got a link to nothing;"):
        images_in(tmp_path)
    (tmp_path / "x.png").unlink()
    os.mkfifo(tmp_path / "y.png")
    with pytest.raises(CalibrationError, match=r"y\.png: must be an image, got a pipe, a socket"):
        images_in(tmp_path)


def test_folder_without_permission(unprivileged: Path) -> None:  # noqa: F811
    touch(unprivileged, "a.png", "sub/b.png")
    (unprivileged / "sub").chmod(0)
    sentence = r"sub: must be a readable folder, got Permission denied; check its permissions"
    with pytest.raises(CalibrationError, match=sentence):
        images_in(unprivileged)
    (unprivileged / "sub").chmod(0o700)
    unprivileged.chmod(0o300)
    with pytest.raises(CalibrationError, match=r"must be a readable folder, got Permission denied"):
        read_class_folders(unprivileged, 2)


# ---- labels.csv ----------------------------------------------------------------------------------
@pytest.fixture
def folder(tmp_path: Path) -> Path:
    touch(tmp_path, "a.png", "b,c.png", 'd"e.png', "sub/f.png", "ü.png", "g\u2028h.png")
    return tmp_path


def read(folder: Path, text: str | bytes, *, labelled: bool = True) -> list[tuple[str, int]]:
    data = text if isinstance(text, bytes) else (HEADER + text).encode()
    (folder / "labels.csv").write_bytes(data)
    paths, labels = read_labels(folder, 10, labelled=labelled)
    return [
        (str(path.relative_to(folder)), label) for path, label in zip(paths, labels, strict=True)
    ]


@pytest.mark.parametrize(
    "text",
    [
        "a.png,1\nsub/f.png,2\n",
        "a.png,1\r\nsub/f.png,2\r\n",
        "a.png,1\rsub/f.png,2",
        " a.png , 1 ,remark\n\n  \n,,\nsub/f.png,2,,,\n",
        '"a.png","1"\n"sub/f.png",2\n',
        "a.png,001\nsub/f.png," + "0" * 5000 + "2\n",
        "./a.png,1\nsub/../sub//f.png,2\n",
    ],
)
def test_spellings_of_the_same_labels(folder: Path, text: str) -> None:
    rows = read(folder, text)
    assert [(os.path.normpath(name), label) for name, label in rows] == [
        ("a.png", 1),
        ("sub/f.png", 2),
    ]


def test_names_with_commas_quotes_and_other_letters(folder: Path) -> None:
    text = '"b,c.png",1\n"d""e.png",2\nü.png,3\ng\u2028h.png,4\n'
    assert read(folder, text) == [("b,c.png", 1), ('d"e.png', 2), ("ü.png", 3), ("g\u2028h.png", 4)]


def test_byte_order_mark_and_more_columns(folder: Path) -> None:
    text = "\ufefffilename,label_index,name\r\na.png,1,cat\r\n"
    assert read(folder, text.encode()) == [("a.png", 1)]


def test_labels_that_are_not_read(folder: Path) -> None:
    assert read(folder, "a.png,cat\nsub/f.png\n", labelled=False) == [
        ("a.png", 0),
        ("sub/f.png", 0),
    ]
    assert read(folder, b"filename\na.png\n", labelled=False) == [("a.png", 0)]
    with pytest.raises(CalibrationError, match=r"got sub/\.\./a\.png again; remove one row"):
        read(folder, "a.png,1\nsub/../a.png,2\n", labelled=False)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a.png,1\n./a.png,1\n", r"line 3: must name every image once, got \./a\.png again; remo"),
        ("a.png,1\nlink/../a.png,1\n", r"got link/\.\./a\.png again; remove one row"),
        ("sub/f.png,1\nlink/f.png,1\n", r"got link/f\.png again; remove one row"),
        ("a.png,1\na.png,2\n", r"got a\.png again, with class 2 instead of 1; remove one row"),
        ("a.png,10\n", r"line 2: must be a class in \[0, 9\], got 10; these labels belong to ano"),
        ("a.png," + "9" * 5000, r"must be a class in \[0, 9\], got a number of 5000 digits; these"),
        ("a.png,-1\n", r"must be a file name and a class number, got 'a\.png,-1'; e\.g\. cat"),
        ("a.png,1.0\n", r"must be a file name and a class number, got 'a\.png,1\.0'"),
        ("a.png,1e3\n", r"must be a file name and a class number, got 'a\.png,1e3'"),
        ("a.png,²\n", r"must be a file name and a class number, got 'a\.png,²'"),
        (",1\n", r"must be a file name and a class number, got ',1'"),
        ("a.png;1\n", r"must be a file name and a class number, got 'a\.png;1'"),
        ("../x.png,1\n", r"must name an image inside the folder, got \.\./x\.png; put the image"),
        ("sub/../../x.png,1\n", r"must name an image inside the folder, got sub/\.\./\.\./x\.png"),
        ("/etc/hostname,1\n", r"must name an image inside the folder, got /etc/hostname; put"),
        (
            "z.png,1\n",
            r"must name an image in its folder, got z\.png, which is missing; fix the row",
        ),
        (
            "sub,1\n",
            r"must name an image in its folder, got sub, no image: a folder; fix the row or",
        ),
        ("pipe.png,1\n", r"got pipe\.png, no image: a pipe, a socket or a device; fix the row"),
        ("loop.png,1\n", r"got loop\.png, no image: Too many levels of symbolic links; fix the"),
        ("n" * 5000 + ",1\n", r"no image: File name too long; fix the row or the folder"),
        ('"a.png,1\nsub/f.png,2\n', r"line 3: must be a file name and a class number, got"),
        ("x" * MAX_LINE_CHARS + "y,1\n", r"line 2: must have at most 65,536 characters, got more;"),
    ],
)
def test_rows_that_are_refused(folder: Path, text: str, sentence: str) -> None:
    os.mkfifo(folder / "pipe.png")
    (folder / "loop.png").symlink_to("loop.png")
    (folder / "link").symlink_to("sub")
    with pytest.raises(CalibrationError, match=sentence):
        read(folder, text)


def test_zero_bytes(folder: Path) -> None:
    with pytest.raises(CalibrationError, match=r"no image: a name with a zero byte|line contains"):
        read(folder, "a\0.png,1\n")


@pytest.mark.parametrize(
    "data",
    [
        (HEADER + "ü.png,1\n").encode("latin-1"),
        (HEADER + "a.png,1\n").encode("utf-16"),
        HEADER.encode() + b'"' + b"a\n" * 100_000,
    ],
)
def test_file_that_is_no_csv_text(folder: Path, data: bytes) -> None:
    with pytest.raises(CalibrationError, match=r"labels\.csv: must be a CSV text file, got .*; s"):
        read(folder, data)


@pytest.mark.parametrize("data", [b"", b"\n", b"a.png,1\n", b"label_index,filename\n"])
def test_header_that_is_missing(folder: Path, data: bytes) -> None:
    sentence = r"labels\.csv line 1: must be filename,label_index, got '.*'; rename the two columns"
    with pytest.raises(CalibrationError, match=sentence):
        read(folder, data)


def test_file_of_a_terabyte_is_refused_at_its_first_line(folder: Path) -> None:
    with (folder / "labels.csv").open("wb") as file:
        file.truncate(1 << 40)  # sparse: no byte of it is on the disk
    with pytest.raises(CalibrationError, match=r"line 1: must have at most 65,536 characters, got"):
        read_labels(folder, 10, labelled=True)


def test_labels_file_that_is_a_folder(folder: Path) -> None:
    (folder / "labels.csv").mkdir()
    with pytest.raises(CalibrationError, match=r"labels\.csv: must be a CSV text file, got a fold"):
        read_labels(folder, 10, labelled=True)


def test_link_to_an_image_elsewhere(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    store = tmp_path_factory.mktemp("store")
    touch(store, "a.png")
    (folder / "link.png").symlink_to(store / "a.png")
    assert read(folder, "link.png,1\n") == [("link.png", 1)]


# ---- class folders -------------------------------------------------------------------------------
def test_folders_that_hold_no_class(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a.png", "dog/a.png", ".git/x.png", "empty/notes.txt", "stray.png")
    (tmp_path / "loop").symlink_to(".")
    (tmp_path / "up").symlink_to("..")
    (tmp_path / "circle").symlink_to("circle")
    found = read_class_folders(tmp_path, 2)
    assert found is not None
    assert [str(path.relative_to(tmp_path)) for path in found[0]] == ["cat/a.png", "dog/a.png"]
    assert found[1] == [0, 1]
    assert read_class_folders(tmp_path / "empty", 2) is None


def test_one_image_in_two_classes(tmp_path: Path) -> None:
    touch(tmp_path, "cat/a.png", "dog/b.png")
    (tmp_path / "dog" / "linked").symlink_to("../cat")
    sentence = r"dog/linked/a\.png: must be in one class, got classes 0 and 1; remove one of the li"
    with pytest.raises(CalibrationError, match=sentence):
        read_class_folders(tmp_path, 2)


def test_numbers_beside_names(tmp_path: Path) -> None:
    touch(tmp_path, "0/a.png", "10/a.png", "2/a.png", "other/a.png")
    sentence = (
        r"folders that are all named by class numbers, or all by class names, got 0 and other; r"
    )
    with pytest.raises(CalibrationError, match=sentence):
        read_class_folders(tmp_path, 4)


def test_class_number_beyond_all_classes(tmp_path: Path) -> None:
    touch(tmp_path, "9" * 200 + "/a.png")
    with pytest.raises(CalibrationError, match=r"named after classes in \[0, 2147483647\], got 99"):
        read_class_folders(tmp_path, None)


# ---- text lists ----------------------------------------------------------------------------------
def listed(folder: Path, text: str, classes: int | None = 5, *, labelled: bool = True) -> object:
    for name in ("a.png", "b c.png", "d.npy"):
        (folder / name).touch()
    (folder / "list.txt").write_text(text)
    paths, labels = read_list(folder / "list.txt", classes, labelled=labelled)
    return [path.name for path in paths], labels


def test_lists_with_and_without_classes(tmp_path: Path) -> None:
    assert listed(tmp_path, "a.png\n\n# no image\n  b c.png \n") == (["a.png", "b c.png"], None)
    with_classes = "\ufeffa.png 3\nb c.png,0\nd.npy\t4\n"
    assert listed(tmp_path, with_classes) == (["a.png", "b c.png", "d.npy"], [3, 0, 4])
    assert listed(tmp_path, with_classes, None, labelled=False)[1] is None  # type: ignore[index]
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "list.txt").write_text(f"{tmp_path / 'a.png'}\n../b c.png\n")
    assert len(read_list(tmp_path / "x" / "list.txt", 5, labelled=True)[0]) == 2


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("a.png\nno.png", r"list.txt, line 2: must name an image, got no.png: no such file; corr"),
        ("README.md", r"list.txt, line 1: must name an image, got README.md: another suffix"),
        ("a.png 5", r"list.txt, line 1: must have a class below 5, got 5; give the model"),
        ("a.png\nb c.png 1", r"list.txt: must give all images a class, or none, got 1 of 2; add"),
        ("a.png\na.png", r"list.txt: must list each image once, got \S*a.png twice; remove a line"),
        ("a.png\n./a.png", r"list.txt: must list each image once, got \S*a.png twice; remove a"),
    ],
)
def test_lists_that_cannot_be_used(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(CalibrationError, match=sentence):
        listed(tmp_path, text)


def test_a_list_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes(b"\xff\xff")
    with pytest.raises(CalibrationError, match=r"list.txt: must be UTF-8 text, got .*; save it ag"):
        read_list(tmp_path / "list.txt", 5, labelled=True)
