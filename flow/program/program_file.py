"""The container of a program file, read as if an enemy had written it.

Sections lie one after the other and their checksums hold; META is JSON whose depth and size are
bounded before it is parsed, and whose values have the types and ranges that the rest counts on.
``flow/sim/core/program.cc`` reads the same files by the same rules.
"""

from __future__ import annotations

import json
import re
import struct
import zlib
from typing import TYPE_CHECKING, Any, Final, NoReturn

from vta_config.errors import ArtifactError

if TYPE_CHECKING:
    from collections.abc import Sequence

MAGIC: Final = b"VTAFLOW1"
HEADER: Final = struct.Struct("<8sIIQII")
SECTION: Final = struct.Struct("<8sQQII")
ALIGN: Final = 64
#: Sections that every file has; FILLS is there where something is filled.
TAGS: Final = ("CONFIG", "INSNS", "CONSTS", "TENSORS", "META")
MAX_SECTIONS: Final = 64
#: META is text for people; its values take many times its bytes once they are read.
MAX_META_BYTES: Final = 1 << 24
#: Brackets inside each other; ours have five.
MAX_META_DEPTH: Final = 32
#: Characters of a name.
MAX_NAME_CHARS: Final = 1 << 16
#: Elements of a tensor, and of an image with the zeros that positions of its form reach.
MAX_TENSOR_ELEMS: Final = (1 << 31) - 1
_HINT: Final = "compile it again"
#: What matters to the depth of JSON: strings as wholes, and brackets.
_TOKENS: Final = re.compile(rb'"(?:[^"\\]|\\.)*"?|[][{}]', re.DOTALL)


def damaged(where: str, must: str, got: object) -> NoReturn:
    """Say what is wrong with the program file `where`.

    Raises
    ------
    ArtifactError
        Always.
    """
    raise ArtifactError(where, must, got=clipped(got), hint=_HINT)


def clipped(value: object, limit: int = 200) -> str:
    """Write a value that may be long, or hold what cannot be printed, in a few words."""
    text = str(value).encode("utf-8", "backslashreplace").decode()
    return text if len(text) <= limit else f"{text[:limit]}… ({len(text):,} characters)"


def read_header(
    data: bytes | memoryview, versions: Sequence[int], where: str
) -> tuple[int, int, int]:
    """Check the 32 bytes that a program file begins with.

    Returns
    -------
    sections, file_bytes, table_crc : int

    Raises
    ------
    ArtifactError
        When `data` is not the beginning of a program file of one of `versions`.
    """
    if len(data) < HEADER.size:
        damaged(where, f"must have a header of {HEADER.size} bytes", len(data))
    magic, found, count, file_bytes, table_crc, reserved = HEADER.unpack_from(data)
    if magic != MAGIC:
        if magic.startswith(b"\xfd7zXZ"):
            raise ArtifactError(
                where,
                "must be a program file",
                got="a file compressed with xz",
                hint="decompress it: xz -d",
            )
        damaged(where, f"must start with {MAGIC.decode()}", magic)
    if found not in versions:
        damaged(where, f"must be version {' or '.join(map(str, versions))}", found)
    if reserved:
        damaged(where, "must have 0 in reserved fields", reserved)
    return count, file_bytes, table_crc


def read_sections(data: bytes, versions: Sequence[int], where: str) -> dict[str, memoryview]:
    """Return the sections of a program file by their tags, without copying them.

    Raises
    ------
    ArtifactError
        When the bytes are not a whole, undamaged program file of one of `versions`.
    """
    count, file_bytes, table_crc = read_header(data, versions, where)
    if file_bytes != len(data):
        damaged(where, f"must have {file_bytes} bytes", len(data))
    end = HEADER.size + count * SECTION.size
    if count > MAX_SECTIONS or end > len(data):
        damaged(where, "must hold its section table", f"{count} sections")
    view = memoryview(data)
    table = view[HEADER.size : end]
    if zlib.crc32(table) != table_crc:
        damaged(where, "must have an undamaged section table", "another checksum")
    sections: dict[str, memoryview] = {}
    for tag_bytes, offset, size, crc, reserved in SECTION.iter_unpack(table):
        tag = tag_bytes.rstrip(b"\0").decode("ascii", "backslashreplace")
        if offset % ALIGN or offset < end or offset + size > len(data):
            damaged(where, f"must hold its section {tag}", f"{size} bytes at {offset}")
        if reserved:
            damaged(where, "must have 0 in reserved fields", reserved)
        if any(view[end:offset]):
            damaged(where, "must have 0 between sections", "something else")
        end = offset + size
        if zlib.crc32(view[offset:end]) != crc:
            damaged(where, f"must have an undamaged section {tag}", "another checksum")
        if tag in sections:
            damaged(where, f"must have one section {tag}", "two")
        sections[tag] = view[offset:end]
    if any(view[end:]):
        damaged(where, "must end with its last section", "something after it")
    missing = [tag for tag in TAGS if tag not in sections]
    if missing:
        damaged(
            where, "must have the sections " + ", ".join(TAGS), f"none named {', '.join(missing)}"
        )
    return sections


def read_meta(raw: bytes | memoryview, where: str) -> dict[str, Any]:
    """Parse META; what is inside it is not checked.

    Raises
    ------
    ArtifactError
        When it is larger or deeper than allowed, or not a JSON object.
    """
    if len(raw) > MAX_META_BYTES:
        damaged(where, f"must have a META of at most {MAX_META_BYTES} bytes", len(raw))
    text = bytes(raw)
    depth = 0
    for token in _TOKENS.finditer(text):
        bracket = token[0]
        if bracket in b"[{":
            depth += 1
            if depth > MAX_META_DEPTH:
                damaged(where, f"must have a META of at most {MAX_META_DEPTH} levels", "more")
        elif bracket in b"]}":
            depth -= 1
    try:
        meta = json.loads(text.decode("utf-8"), parse_constant=_no_constant)
    except ValueError as error:
        damaged(where, "must have a META of JSON", error)
    if not isinstance(meta, dict):
        damaged(where, "must have a META that is a JSON object", type(meta).__name__)
    return meta


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def entry(owner: dict[str, Any], key: str, where: str) -> Any:
    """Return the value at `key` of an object in META.

    Raises
    ------
    ArtifactError
        When there is none.
    """
    if key not in owner:
        damaged(where, f"must have {key} in its META", "none")
    return owner[key]


def text_of(value: object, what: str, where: str) -> str:
    """Return `value`, a name.

    Raises
    ------
    ArtifactError
        When it is no string that can be written as UTF-8, or a very long one.
    """
    if not isinstance(value, str):
        damaged(where, f"must have a string as {what}", value)
    if len(value) > MAX_NAME_CHARS:
        damaged(where, f"must have at most {MAX_NAME_CHARS} characters in {what}", len(value))
    try:
        value.encode()
    except UnicodeEncodeError:
        damaged(where, f"must have a {what} that is UTF-8", value)
    return value


def integer_of(value: object, what: str, where: str, low: int, high: int) -> int:
    """Return `value`, an integer in [low, high].

    Raises
    ------
    ArtifactError
        When it is anything else.
    """
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        damaged(where, f"must have an integer in [{low}, {high}] as {what}", value)
    return value


def list_of(value: object, what: str, where: str) -> list[Any]:
    """Return `value`, a list.

    Raises
    ------
    ArtifactError
        When it is anything else.
    """
    if not isinstance(value, list):
        damaged(where, f"must have a list as {what}", type(value).__name__)
    return value


def object_of(value: object, what: str, where: str) -> dict[str, Any]:
    """Return `value`, a JSON object.

    Raises
    ------
    ArtifactError
        When it is anything else.
    """
    if not isinstance(value, dict):
        damaged(where, f"must have an object as {what}", type(value).__name__)
    return value


def check_tensor(
    shape: Sequence[int],
    pairs: Sequence[Sequence[int]],
    what: str,
    where: str,
) -> None:
    """Check that a tensor, and the image that positions of its form reach, is not absurd.

    Parameters
    ----------
    shape : sequence of 4 int
        NCHW.
    pairs : sequence of 4 (int, int)
        Patch, stride, padding, extent.
    what, where : str
        The tensor and the file, for the sentence.

    Raises
    ------
    ArtifactError
        When a dimension is 0, or they are too many elements.
    """
    n, c, h, w = shape
    patch, stride, padding, extent = pairs
    spans = [(extent[a] - 1) * stride[a] + patch[a] for a in (0, 1)]
    sizes = (
        n * c * h * w,
        n * c * patch[0] * patch[1] * extent[0] * extent[1],
        n * c * spans[0] * spans[1],
    )
    if min(sizes[:2]) < 1 or min(stride) < 1 or max(*sizes, *padding) > MAX_TENSOR_ELEMS:
        damaged(
            where,
            f"must have dimensions of at least 1 that fit the arena in {what}",
            "x".join(str(size) for size in shape),
        )
