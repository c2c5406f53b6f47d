"""Options that say how a file of fingerprints is laid out, and the file that goes over HTTP in its place."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands.options import fail, reject

if TYPE_CHECKING:
    from reference_db.cell import Cell
    from reference_db.layout import Layout


class SubcarrierOrder(StrEnum):
    ascending = "ascending"
    descending = "descending"
    fft = "fft"


class Units(StrEnum):
    m = "m"
    km = "km"
    cm = "cm"
    mm = "mm"
    ft = "ft"
    deg = "deg"


AxesOption = Annotated[
    str | None,
    typer.Option(
        metavar="A,B,C",
        help="Axes of the CSI in the file, the slowest first: samples, antennas (or polarisations, rows, columns), "
        "subcarriers, reim. A minus before a name reverses the axis.",
        show_default="samples,antennas,subcarriers",
    ),
]
ConjugateOption = Annotated[
    bool, typer.Option("--conjugate", help="The CSI has the other sign of phase: conjugate it.")
]
SubcarrierOrderOption = Annotated[
    SubcarrierOrder, typer.Option(help="Order of the subcarriers in the file. fft: the carrier comes first.")
]
UnitsOption = Annotated[
    Units, typer.Option(help="Units of the positions in the file. deg: latitude and longitude, WGS84.")
]
FieldOption = Annotated[
    list[str] | None,
    typer.Option(
        "--field",
        metavar="FIELD=NAME",
        help="Variable of the file that is a field, such as csi=Hest or positions=gps. May be given several times. "
        "Variables that are no field are then ignored.",
        show_default="by their usual names",
    ),
]


def make_layout(
    axes: str | None,
    conjugate: bool,
    subcarrier_order: SubcarrierOrder,
    units: Units,
    fields: list[str] | None,
    *,
    origin: str = "0,0",
    subcarrier_step: int = 1,
) -> "Layout":
    """Exits if there is no such layout."""
    from reference_db.errors import BadFingerprintFile
    from reference_db.layout import Layout

    named = {}
    for field in fields or []:
        name, separator, variable = field.partition("=")
        if not (name and separator and variable):
            reject(f"--field {field} is not FIELD=NAME")
        named[name] = variable
    options: dict[str, object] = {} if axes is None else {"axes": axes}
    try:
        return Layout.read(
            **options,
            conjugate=conjugate,
            subcarrier_order=subcarrier_order.value,
            subcarrier_step=subcarrier_step,
            units=units.value,
            origin=origin,
            fields=named,
        )
    except BadFingerprintFile as error:
        reject(str(error))


class BadUpload(Exception):
    """A file cannot be sent. The text can be shown to a person."""


def make_upload(file: Path, layout: "Layout", cell: "Cell | None", folder: Path) -> Path:
    """As `convert`. Exits if the file cannot be read."""
    from reference_db.sources.source import SUFFIXES, SUFFIXES_IN_WORDS

    if file.suffix.lower() not in SUFFIXES:
        reject(f"{file.name}: the suffix must be {SUFFIXES_IN_WORDS}")
    try:
        return convert(file, layout, cell, folder)
    except BadUpload as error:
        fail(str(error))


def convert(file: Path, layout: "Layout", cell: "Cell | None", folder: Path, *, tell: bool = True) -> Path:
    """The file to send: `file` itself where the service reads it as it is, else a copy of it in the convention.

    The copy is in `folder`; it has the description of `cell` if there is one, else that of the file. `tell`: names
    variables that are not used. Raises `BadUpload` if the file cannot be read.
    """
    from reference_db.errors import ReferenceDatabaseError
    from reference_db.fingerprint_file import UPLOADED, FingerprintFile
    from reference_db.layout import CONVENTION

    if file.suffix.lower() in UPLOADED and layout == CONVENTION and cell is None:
        return file
    upload = folder / f"{file.stem}.safetensors"
    try:
        opened = FingerprintFile.open(file, layout)
        opened.write_upload(upload, cell or opened.cell)
    except (ReferenceDatabaseError, OSError) as error:
        named = "" if str(error).startswith(file.name) else f"{file.name}: "
        raise BadUpload(f"{named}{error}") from error
    if opened.unused and tell:
        typer.echo(f"fingerpost: not used: {', '.join(opened.unused)} of {file.name}", err=True)
    return upload


def read_description(cell_file: Path, cell: str | None) -> "Cell":
    """The cell of a description; `cell` where it names none. Exits with a line for each fault of the file."""
    from reference_db.errors import BadCellDescription, BadFingerprintFile
    from reference_db.fingerprint_file import read_cell_file

    try:
        return read_cell_file(cell_file, cell)
    except BadCellDescription as error:
        fail("\n".join(error.faults))
    except BadFingerprintFile as error:
        fail(str(error))
