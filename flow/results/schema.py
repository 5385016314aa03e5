"""JSON Schema (draft 2020-12) of dataclasses: one source for a file's fields and their meaning.

A class becomes a definition, a field a property; the docstring's ``Parameters`` describe it.
"""

from __future__ import annotations

import inspect
import re
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
#: In a field's metadata: the key may be missing.
OMITTED: Final[Mapping[str, bool]] = {"omitted": True}
#: What makes the schema of a class that writes its JSON itself.
Special = Mapping[type, Callable[[], dict[str, Any]]]

_NAMES: Final[Mapping[Any, str]] = {
    str: "string",
    int: "integer",
    float: "number",
    bool: "boolean",
    type(None): "null",
    Path: "string",
}
_PARAMETER: Final = re.compile(r"^(\w+(?:, \w+)*) : .*$")


def schema_of(
    cls: type,
    *,
    title: str,
    special: Special | None = None,
    without: Mapping[type, Collection[str]] | None = None,
    closed: bool = False,
) -> dict[str, Any]:
    """Return the JSON Schema of a dataclass.

    Parameters
    ----------
    cls : type
        The dataclass of the whole file.
    title : str
        Of the schema.
    special : mapping, optional
        What makes the schema of classes that write their JSON themselves.
    without : mapping, optional
        Fields that are not written, by class.
    closed : bool
        Whether objects must have no further keys; new fields may appear otherwise.
    """
    maker = _Maker(special or {}, without or {}, closed)
    top = maker.of(cls)
    return {"$schema": DRAFT, "title": title, **top, "$defs": maker.definitions}


class _Maker:
    def __init__(
        self, special: Special, without: Mapping[type, Collection[str]], closed: bool
    ) -> None:
        self._special, self._without, self._closed = special, without, closed
        self.definitions: dict[str, Any] = {}

    def of(self, kind: Any) -> dict[str, Any]:
        """Return the schema of a type."""
        if kind is Any:
            return {}
        if kind in _NAMES:
            return {"type": _NAMES[kind]}
        if isinstance(kind, type) and (kind in self._special or is_dataclass(kind)):
            return self._reference(kind)
        origin, arguments = get_origin(kind), get_args(kind)
        if origin is Literal:
            return {"enum": list(arguments)}
        if origin in (Union, types.UnionType):
            return _either([self.of(argument) for argument in arguments])
        if origin is tuple and arguments[-1] is not Ellipsis:
            (item,) = {repr(a): a for a in arguments}.values()  # a pair of one type
            return self._array(item) | {"minItems": len(arguments), "maxItems": len(arguments)}
        if isinstance(origin, type) and issubclass(origin, Mapping):
            return {"type": "object", "additionalProperties": self.of(arguments[1])}
        if isinstance(origin, type) and issubclass(origin, (Sequence, AbstractSet)):
            return self._array(arguments[0])
        raise TypeError(f"{kind}: must be a type that JSON has; add a case to flow.results.schema")

    def _array(self, item: Any) -> dict[str, Any]:
        return {"type": "array", "items": self.of(item)}

    def _reference(self, cls: type) -> dict[str, Any]:
        name = cls.__name__
        if name not in self.definitions:
            self.definitions[name] = {}  # it may hold itself
            made = self._special[cls]() if cls in self._special else self._object(cls)
            if self._closed and made.get("type") == "object":
                made.setdefault("additionalProperties", False)
            self.definitions[name] = made
        return {"$ref": f"#/$defs/{name}"}

    def _object(self, cls: type) -> dict[str, Any]:
        hints, told = get_type_hints(cls), descriptions(cls)
        used = [f for f in fields(cls) if f.name not in self._without.get(cls, ())]
        properties = {}
        for field in used:
            text = {"description": told[field.name]} if field.name in told else {}
            properties[field.name] = self.of(hints[field.name]) | text
        return {
            "type": "object",
            "description": (inspect.getdoc(cls) or "").partition("\n")[0],
            "properties": properties,
            "required": [f.name for f in used if not f.metadata.get("omitted")],
        }


def _either(kinds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the schema of a value of any of these; of plain types a list of their names."""
    if all(set(kind) == {"type"} for kind in kinds):
        return {"type": [kind["type"] for kind in kinds]}
    return {"anyOf": kinds}


def descriptions(cls: type) -> dict[str, str]:
    """Return what a class's docstring says of each of its parameters, each as one line."""
    lines = (inspect.getdoc(cls) or "").splitlines()
    found: dict[str, str] = {}
    names: tuple[str, ...] = ()
    for line in lines:
        if match := _PARAMETER.match(line):
            names = tuple(match[1].split(", "))
        elif line.startswith("    ") and names:
            for name in names:
                found[name] = f"{found.get(name, '')} {line.strip()}".strip()
        elif line.strip():
            names = ()
    return found
