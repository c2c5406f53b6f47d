"""``fingerpost cells check``: what the service sees in a survey before anything is written."""

import json as json_format
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any

import typer

from service.commands import layout_options
from service.commands.api_session import Target, raise_for_problem, run_session
from service.commands.cell_options import CellFile, Json, SurveyFile, Url, cell_path
from service.commands.options import ArtifactOption, Database, console, fail, reject
from service.commands.transfer import upload_file

if TYPE_CHECKING:
    import httpx

    from reference_db.layout import Layout


def check(
    file: SurveyFile,
    cell: Annotated[str | None, typer.Option(help="Name of the cell.", show_default="that of the description")] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Check fingerprints to append to the cell, not to replace it by.")
    ] = False,
    cell_file: CellFile = None,
    axes: layout_options.AxesOption = None,
    conjugate: layout_options.ConjugateOption = False,
    subcarrier_order: layout_options.SubcarrierOrderOption = layout_options.SubcarrierOrder.ascending,
    units: layout_options.UnitsOption = layout_options.Units.m,
    field: layout_options.FieldOption = None,
    url: Url = None,
    database: Database = None,
    artifact: ArtifactOption = None,
    json: Json = False,
) -> None:
    """Say what the service sees in a file of fingerprints, and write nothing. Exit status 1: it would be refused.

    Names the shape, extent and density of the survey, whether bearings agree with the positions, how well its
    fingerprints locate each other, and likely mistakes. Without --url this process looks at the file itself; a database
    need not exist.
    """
    layout = layout_options.make_layout(axes, conjugate, subcarrier_order, units, field)
    described = None if cell_file is None else layout_options.read_description(cell_file, cell)
    name = cell or (described.cell_id if described is not None else _read_cell_id(file, layout))
    path, method = (cell_path(name, "fingerprints"), "POST") if append else (cell_path(name), "PUT")
    with TemporaryDirectory() as folder:
        upload = layout_options.make_upload(file, layout, described, Path(folder))

        async def ask(client: "httpx.AsyncClient") -> "httpx.Response":
            return raise_for_problem(await upload_file(client, method, path, upload, {"dryRun": "true"}, {}))

        try:
            report = run_session(Target(url, database, artifact, creates=True), ask).json()
        except OSError as error:
            fail(f"{file.name} cannot be read: {error.strerror or error}")
    if json:
        typer.echo(json_format.dumps(report, indent=2, ensure_ascii=False))
    else:
        print_report(report)
    if not report["wouldPublish"]:
        raise typer.Exit(1)


def print_report(report: dict[str, Any]) -> None:
    """A `SurveyReport` as lines of facts, a line for each finding, and the verdict."""
    from rich.markup import escape
    from rich.table import Table

    facts = Table(show_header=False, box=None)
    for name, value in _list_facts(report):
        facts.add_row(name, escape(value))
    console().print(facts)
    for finding in report["findings"]:
        colour = "red" if finding["severity"] == "fault" else "yellow"
        console().print(
            f"[{colour}]{finding['severity']}[/{colour}]: {escape(finding['what'])}; {escape(finding['advice'])}",
            highlight=False,
        )
    if report["wouldPublish"]:
        console().print("would be published")
    elif all(finding["overridable"] for finding in report["findings"] if finding["severity"] == "fault"):
        console().print("would be refused; --force publishes it anyway", highlight=False)
    else:
        console().print("would be refused")


def _list_facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    facts = [("cell", f"{report['cellId']}, {_name_version(report)}"), ("fingerprints", str(report["fingerprints"]))]
    if csi := report.get("csi"):
        facts.append(("CSI", f"{csi['antennas']} antennas, {csi['subcarriers']} subcarriers"))
    if "levelDb" in report:
        facts.append(("level", f"{report['levelDb']:.1f} dB"))
    if extent := report.get("extent"):
        sides = (extent["east"] - extent["west"], extent["north"] - extent["south"])
        corner = "west {west:.1f}, south {south:.1f}, east {east:.1f}, north {north:.1f} m".format(**extent)
        facts.append(("extent", f"{sides[0]:.1f} m x {sides[1]:.1f} m: {corner}"))
    if "spacing" in report:
        facts.append(("spacing", f"{report['spacing']:.2f} m to the nearest other place (median)"))
    if "sigma" in report:
        facts.append(("sigma", f"{report['sigma']:.2g} m (median)"))
    if "measuredFrom" in report:
        facts.append(("measured", f"{report['measuredFrom'][:10]} to {report['measuredTo'][:10]}"))
    if bearing := report.get("bearing"):
        shares = f"{bearing['agreement']:.0%} of {bearing['snapshots']} snapshots fit their position"
        facts.append(("bearings", f"{shares}, {bearing['chance']:.0%} by chance"))
    if reason := report.get("layoutUnjudged"):
        facts.append(("layout", f"not judged: {reason}"))
    if reason := report.get("positionsUnjudged"):
        facts.append(("positions", f"not judged: {reason}"))
    if left_out := report.get("leaveOneOut"):
        errors = "median {median:.2f} m, p90 {p90:.2f} m; by chance {chance:.2f} m".format(**left_out)
        facts.append(("leave-one-out", f"{errors} ({left_out['users']} fingerprints, weighted kNN)"))
    return facts


def _name_version(report: dict[str, Any]) -> str:
    return f"now at version {report['version']}" if "version" in report else "a new cell"


def _read_cell_id(file: Path, layout: "Layout") -> str:
    """The name of the cell that a file describes. Exits if it describes none."""
    from reference_db.errors import ReferenceDatabaseError
    from reference_db.fingerprint_file import FingerprintFile

    try:
        described = FingerprintFile.open(file, layout).cell
    except ReferenceDatabaseError as error:
        fail(str(error))
    if described is None:
        reject(f"{file.name} describes no cell; name it with --cell, or describe it with --cell-file")
    return described.cell_id
