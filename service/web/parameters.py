"""Parameters that several routes share."""

import re
from typing import Annotated

from fastapi import Depends, Path

from fingerpost.wire import CELL_ID_PATTERN
from service.errors import CellNotFound

_CELL_ID = re.compile(CELL_ID_PATTERN.removeprefix("^").removesuffix("$"))


def cell_name(cell_id: Annotated[str, Path(alias="cellId", description="The name of the cell.")]) -> str:
    """The cell that the path names. Raises `CellNotFound` for what cannot be the name of a cell."""
    if not _CELL_ID.fullmatch(cell_id):
        raise CellNotFound("/cellId", "no such cell")
    return cell_id


CellName = Annotated[str, Depends(cell_name)]
