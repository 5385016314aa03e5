"""Origins of instructions in a program file: a table of different ones, and runs of equal ones.

.. code-block:: json

    {"table": [[0, [0, 14, 0], "bias"], [null, null, "finish"]], "runs": [0, 2, 1, 1]}

A row is the layer's index in ``layers`` (null: no layer), the tile's first block of output
channels, row and column (null: no tile), and the purpose. A run is a row's index and a number of
instructions.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

from vta_config.errors import ArtifactError
from vta_config.origin import Origin

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from vta_config.isa import Insn

_DIMENSIONS = 3


def origins_json(insns: Iterable[Insn], layers: Sequence[str]) -> dict[str, list[Any]]:
    """Return the origins of a program's instructions as JSON values.

    Parameters
    ----------
    insns : iterable of Insn
    layers : sequence of str
        Names of the program's layers, in their order.
    """
    index = {name: k for k, name in enumerate(layers)}
    rows: dict[Origin, int] = {}
    runs: list[int] = []
    for origin, group in groupby(insn.origin for insn in insns):
        runs += (rows.setdefault(origin, len(rows)), sum(1 for _ in group))
    table = [
        [
            None if row.layer is None else index[row.layer],
            None if row.tile is None else list(row.tile),
            str(row.purpose),
        ]
        for row in rows
    ]
    return {"table": table, "runs": runs}


def read_origins(values: Any, count: int, layers: Sequence[str], where: str) -> list[Origin]:
    """Return the origin of each of `count` instructions.

    Parameters
    ----------
    values : Any
        What a file's JSON has.
    count : int
        Instructions of the program.
    layers : sequence of str
        Names of the program's layers, in their order.
    where : str
        The file, for errors.

    Raises
    ------
    ArtifactError
        When they are not as `origins_json` writes them, or are of more or fewer instructions.
    """

    def check(holds: bool, must: str, got: object) -> None:
        if not holds:
            raise ArtifactError(f"{where} origins", must, got=got, hint="compile it again")

    def is_index(value: Any, end: int) -> bool:
        return type(value) is int and 0 <= value < end

    def whole(row: Any) -> bool:
        if type(row) is not list or len(row) != _DIMENSIONS or type(row[2]) is not str:
            return False
        layer, tile, _ = row
        place = tile is None or (
            type(tile) is list
            and len(tile) == _DIMENSIONS
            and all(is_index(at, 1 << 32) for at in tile)
        )
        return place and (layer is None or is_index(layer, len(layers)))

    named = all(type(name) is str for name in layers) and len(set(layers)) == len(layers)
    check(named, "must be of layers that have texts of their own as names", f"{len(layers)} layers")
    fits = type(values) is dict and all(type(values.get(k)) is list for k in ("table", "runs"))
    check(fits, "must be a table and runs", type(values).__name__)
    table = []
    for row in values["table"]:
        check(whole(row), "must be rows of a layer's index, a tile and a purpose", row)
        layer, tile, purpose = row
        table.append(
            Origin(
                layer=None if layer is None else layers[layer],
                tile=None if tile is None else (tile[0], tile[1], tile[2]),
                purpose=purpose,
            )
        )
    runs = values["runs"]
    pairs = list(zip(runs[::2], runs[1::2], strict=False))
    told = len(runs) % 2 == 0 and all(
        is_index(row, len(table)) and type(n) is int and n > 0 for row, n in pairs
    )
    check(told, "must be runs of a row's index and a number of instructions", f"{len(runs)} values")
    # Before anything is made of them: a number is short, however large it is.
    total = sum(n for _, n in pairs)
    check(total == count, f"must be of {count} instructions", total)
    return [table[row] for row, n in pairs for _ in range(n)]
