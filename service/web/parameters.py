"""Parameters that several routes share."""

import re
from typing import Annotated

from fastapi import Depends, Path
from pydantic import BeforeValidator

from fingerpost.wire import CELL_ID_PATTERN
from service.errors import CellNotFound

_CELL_ID = re.compile(CELL_ID_PATTERN.removeprefix("^").removesuffix("$"))


def cell_name(cell_id: Annotated[str, Path(alias="cellId", description="The name of the cell.")]) -> str:
    """The cell that the path names. Raises `CellNotFound` for what cannot be the name of a cell."""
    if not _CELL_ID.fullmatch(cell_id):
        raise CellNotFound("/cellId", "no such cell")
    return cell_id


def _check_digits(value: object) -> object:
    """pydantic would take `1_0` for ten, and `+1` and `1.0` for one."""
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise ValueError("Input should be a whole number")
    return value


CellName = Annotated[str, Depends(cell_name)]
# After the bounds, which the document would not show otherwise.
DIGITS_ONLY = BeforeValidator(_check_digits)
