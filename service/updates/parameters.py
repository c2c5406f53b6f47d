"""Parameters and dependencies that several of the operators' routes share."""

import re
from typing import Annotated

from fastapi import Depends, Path, Query, Request
from pydantic import Field
from pydantic.functional_validators import AfterValidator, BeforeValidator

from service.cells.faults import CellFaults
from service.updates.publisher import Publisher

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # a terminal may act on these; a tab and a new line are text
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


def get_publisher(request: Request) -> Publisher:
    publisher: Publisher = request.app.state.publisher
    return publisher


def _get_faults(request: Request) -> CellFaults:
    faults: CellFaults = request.app.state.faults
    return faults


def _check_text(value: str) -> str:
    if _CONTROL.search(value):
        raise ValueError("contains control characters")
    return value


def _parse_flag(value: object) -> object:
    if isinstance(value, str):
        if value.lower() not in _FLAGS:
            raise ValueError("neither true nor false")
        return _FLAGS[value.lower()]
    return value


# Terminals show these texts.
_TEXT_PATTERN = {"pattern": r"^[^\u0000-\u001f\u007f-\u009f]*$"}
Text = Annotated[str, Field(max_length=256, json_schema_extra=_TEXT_PATTERN), AfterValidator(_check_text)]
LongText = Annotated[str, Field(max_length=4096, json_schema_extra=_TEXT_PATTERN), AfterValidator(_check_text)]
Flag = Annotated[bool, BeforeValidator(_parse_flag)]
ImportDryRun = Annotated[
    Flag,
    Query(
        alias="dryRun", description="Publish nothing. The answer is a SurveyReport; faults are in it, not a problem."
    ),
]

UpdatesPublisher = Annotated[Publisher, Depends(get_publisher)]
Faults = Annotated[CellFaults, Depends(_get_faults)]
VersionInPath = Annotated[str, Path(description="A version as in 3-ab12cd34ef56, or its number.", examples=["1"])]
VersionInQuery = Annotated[
    Text | None, Query(alias="version", description="A version or its number. Absent: the current version.")
]
