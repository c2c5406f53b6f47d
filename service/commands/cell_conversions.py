"""``fingerpost cells convert``: data that others publish as a survey to import and users to locate."""

import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fingerpost.wire import CELL_ID_PATTERN
from service.commands import layout_options
from service.commands.cell_options import Json
from service.commands.options import fail, print_json, reject, require_finite


class HoldOut(StrEnum):
    location = "location"
    square = "square"
    none = "none"


def convert(
    source: Annotated[
        Path,
        typer.Argument(
            help="Folder of files of one format, or a file: .h5, .tfrecords with spec.json, .pcap or .dat with "
            "positions.csv, .mat, .npz or another file of fingerprints."
        ),
    ],
    cell_file: Annotated[Path, typer.Option(help="Description of the cell as JSON.")],
    cell: Annotated[str | None, typer.Option(help="Name of the cell.", show_default="that of the description")] = None,
    out: Annotated[Path, typer.Option(help="Folder of the files to write.")] = Path("."),
    hold_out: Annotated[
        HoldOut,
        typer.Option(
            help="What is held out of the survey as a whole: locations, squares of a grid (for dense walks) or nothing."
        ),
    ] = HoldOut.location,
    held_out: Annotated[
        float,
        typer.Option(min=0.01, max=0.9, callback=require_finite, help="Share of the locations to hold out."),
    ] = 0.2,
    same_location: Annotated[
        float,
        typer.Option(
            metavar="METRES",
            min=0.001,
            max=1000,
            callback=require_finite,
            help="Fingerprints this near to each other, or linked by others, are one location. Or the squares' side.",
        ),
    ] = 0.1,
    seed: Annotated[int, typer.Option(min=0, help="The same seed holds out the same locations.")] = 0,
    origin: Annotated[
        str | None,
        typer.Option(
            metavar="X,Y",
            help="Place of the base station in the coordinates of the file, in its units.",
            show_default="0,0",
        ),
    ] = None,
    subcarrier_step: Annotated[
        int,
        typer.Option(min=1, help="2 keeps every second subcarrier, and so on, the carrier among them."),
    ] = 1,
    axes: layout_options.AxesOption = None,
    conjugate: layout_options.ConjugateOption = False,
    subcarrier_order: layout_options.SubcarrierOrderOption = layout_options.SubcarrierOrder.ascending,
    units: layout_options.UnitsOption = layout_options.Units.m,
    field: layout_options.FieldOption = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there.")] = False,
    json: Json = False,
) -> None:
    """Turn data that others publish into a survey to import and users to locate, of other locations.

    Writes CELL-references.safetensors and CELL-users.safetensors with the description inside, and prints their names.
    Needs neither a service nor a database.
    """
    from reference_db.data_folder import find_data_files, name_survey_files, read_data_files, write_survey_and_users
    from reference_db.data_folder import hold_out as choose_held_out
    from reference_db.errors import BadHoldOut, ReferenceDatabaseError

    if cell is not None and not re.fullmatch(CELL_ID_PATTERN, cell):
        reject(f"--cell {cell!r} is no name of a cell: letters, digits, dots, hyphens and underscores")
    layout = layout_options.make_layout(
        axes, conjugate, subcarrier_order, units, field, origin=origin or "0,0", subcarrier_step=subcarrier_step
    )
    described = layout_options.read_description(cell_file, cell)
    if cell is not None:
        described = described.model_copy(update={"cell_id": cell})
    for file in name_survey_files(out, described):
        if file.exists() and not force:
            fail(f"{file} is there already; --force overwrites it")
    try:
        fingerprints, notes = read_data_files(find_data_files(source), described, layout)
        held = choose_held_out(fingerprints, hold_out.value, held_out, same_location, seed)
        written = write_survey_and_users(out, described, fingerprints, held)
    except BadHoldOut as error:
        advice = {
            HoldOut.location: "below the distance of its points, or take --hold-out square for a dense walk",
            HoldOut.square: "for smaller squares",
        }[hold_out]
        fail(f"{source.name}: {error}; state --same-location, now {same_location:g} m, {advice}")
    except (ReferenceDatabaseError, OSError) as error:
        fail(str(error))
    for note in notes:
        typer.echo(f"fingerpost: {note}", err=True)
    if origin is None:
        typer.echo("fingerpost: the base station is at 0,0 of the data; state --origin if it is not", err=True)
    counts = {"references": int((~held).sum()), "users": int(held.sum())}
    if json:
        print_json({"files": list(map(str, written)), **counts})
        return
    for file in written:
        typer.echo(file)
    typer.echo(f"fingerpost: {counts['references']} references, {counts['users']} users held out", err=True)
