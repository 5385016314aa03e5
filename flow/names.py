"""Names in ONNX files: any text of UTF-8; bytes that are none are refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from vta_config.errors import UnsupportedModelError

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Texts for people that nothing reads.
_REMARKS: Final = frozenset({"doc_string", "metadata_props", "producer_name", "producer_version"})


def check_names(proto: Any, where: str) -> None:
    """Check that every name of a model is text: protobuf gives bytes where UTF-8 fails.

    Parameters
    ----------
    proto : onnx.ModelProto
    where : str
        The file, for the error.

    Raises
    ------
    UnsupportedModelError
        With the first name that is none.
    """
    for value in _texts(proto):
        if isinstance(value, bytes):
            raise UnsupportedModelError(
                where,
                "must have names in UTF-8",
                got=value.decode("utf-8", "backslashreplace"),
                hint="rename it, or export the model again",
            )


def _texts(message: Any) -> Iterator[str | bytes]:
    """Yield the texts of a message and of those inside it."""
    for field, value in message.ListFields():
        if field.name in _REMARKS:
            continue
        if field.type not in (field.TYPE_STRING, field.TYPE_MESSAGE):
            continue
        # What is repeated is a list of protobuf's own; messages and texts are not.
        values = (
            [value] if isinstance(value, str | bytes) or hasattr(value, "ListFields") else value
        )
        for item in values:
            if field.type == field.TYPE_STRING:
                yield item
            else:
                yield from _texts(item)


def file_stem(name: str) -> str:
    """Return a file's name without suffixes, as text: what the system could not decode is escaped.

    Parameters
    ----------
    name : str
        Of ``FILE.onnx`` or ``FILE.onnx.xz``.
    """
    stem = name.removesuffix(".xz").removesuffix(".onnx")
    return stem.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
