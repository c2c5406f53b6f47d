"""Prints where users were located, for ``fingerpost locate``."""

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import typer
from rich.markup import escape

from service.commands.options import console
from service.commands.tables import make_table, number_column, print_table

if TYPE_CHECKING:
    from fingerpost import LocateResponse, Problem
    from service.commands.user_file import FileUser

MOST_IN_A_BATCH = 256  # of FINGERPOST_BATCH_LIMIT by default


def print_location_lines(
    first: int, users: "Sequence[FileUser]", results: "Sequence[LocateResponse | Problem]"
) -> None:
    """Prints a line of JSON a user: its number from `first`, the truth and the error in metres if known, the answer."""
    from fingerpost import Problem

    for number, (user, result) in enumerate(zip(users, results, strict=True), first):
        line: dict[str, Any] = {"user": number}
        if user.truth is not None:
            line["truth"] = dict(zip(("x", "y"), user.truth, strict=True))
        if isinstance(result, Problem):
            line["problem"] = result.model_dump(mode="json")
        else:
            error = _find_error(user, result)
            line |= ({} if error is None else {"error": error}) | {"answer": result.model_dump(mode="json")}
        typer.echo(json.dumps(line, ensure_ascii=False))


def print_locations(users: "Sequence[FileUser]", results: "Sequence[LocateResponse | Problem]") -> None:
    from fingerpost import Problem

    names = ("user", "lat", "lon", "x (m)", "y (m)", "radius\n(m)", "holds\n(%)", "error\n(m)")
    table = make_table(*map(number_column, names))
    for number, (user, result) in enumerate(zip(users, results, strict=True)):
        if isinstance(result, Problem):
            continue
        point, local = result.location_estimate.point, result.local_location_estimate
        place = None if local is None else (local.point.x, local.point.y)  # None: a file asked for other shapes
        metres = ("", "") if place is None else tuple(f"{length:.2f}" for length in place)
        error = "" if (off := _find_error(user, result)) is None else f"{off:.2f}"
        degrees = (f"{point.lat:.7f}", f"{point.lon:.7f}")
        table.add_row(str(number), *degrees, *metres, f"{result.h_accuracy:.2f}", str(result.confidence), error)
    if table.row_count:
        print_table(table)
    for number, result in enumerate(results):
        if isinstance(result, Problem):
            console().print(f"user {number}: [red]{result.cause}[/red]: {escape(result.detail)}", highlight=False)


def _find_error(user: "FileUser", result: "LocateResponse") -> float | None:
    """Metres between the truth and the answer; None where either is not known in metres."""
    local = result.local_location_estimate
    return None if local is None or user.truth is None else math.dist(user.truth, (local.point.x, local.point.y))
