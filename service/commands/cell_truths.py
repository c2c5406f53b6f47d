"""``fingerpost cells truths``: sends surveyed truths of located users, and shows what they say."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import numpy as np
import typer

from service.commands import cell_tables, layout_options
from service.commands.api_session import ProblemReceived, Target, raise_for_problem, run_session
from service.commands.cell_options import Author, CellName, Change, Force, Json, Note, Url, cell_path, make_change
from service.commands.options import ArtifactOption, Database, console, fail, print_json, reject, require_finite
from service.commands.transfer import upload_file

if TYPE_CHECKING:
    import httpx

    from reference_db.cell import Cell
    from reference_db.fingerprints import Fingerprints
    from reference_db.layout import Layout

TruthsFile = Annotated[
    Path | None,
    typer.Argument(
        help="File of fingerprints, such as .safetensors, .npz or .mat: CSI of users with their surveyed positions.",
        show_default="send nothing",
    ),
]

_MOST_SENT = 128  # truths in a request
_TRIES, _PAUSE_S = 10, 1.0
_MOST_BYTES = 8 * 2**20  # of CSI in a request

Row = dict[str, Any]


class _Sent(NamedTuple):
    """The results of all truths in their order, how many count, and the numbers of those that are proposed."""

    results: list[Row]
    counted: int
    proposed: list[int]


def truths(
    cell: CellName,
    file: TruthsFile = None,
    coarse_sigma: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=1e6,
            callback=require_finite,
            metavar="METRES",
            help="Send coarse positions: the truth plus a normal error of this 1-sigma on each axis. Without it the "
            "users are located by their CSI alone.",
        ),
    ] = None,
    proposal: Annotated[
        Path | None,
        typer.Option(help="Write the truths that would pay as fingerprints to this file, .safetensors."),
    ] = None,
    append: Annotated[
        bool, typer.Option("--append", help="Append the truths that would pay as fingerprints to the cell.")
    ] = False,
    days: Annotated[int, typer.Option(min=1, max=3660, help="Show truths of the last so many days.")] = 90,
    axes: layout_options.AxesOption = None,
    conjugate: layout_options.ConjugateOption = False,
    subcarrier_order: layout_options.SubcarrierOrderOption = layout_options.SubcarrierOrder.ascending,
    units: layout_options.UnitsOption = layout_options.Units.m,
    field: layout_options.FieldOption = None,
    url: Url = None,
    database: Database = None,
    artifact: ArtifactOption = None,
    note: Note = "",
    author: Author = None,
    force: Force = False,
    json: Json = False,
) -> None:
    """Send the surveyed truths of a file, and show how often the stated ellipses hold them, the bias and the errors."""
    path, change = cell_path(cell, "truths"), make_change(note, author, None, None, force)
    if file is None and (proposal or append or coarse_sigma is not None):
        reject("--coarse-sigma, --proposal and --append need a file of truths")
    if proposal is not None and proposal.suffix != ".safetensors":
        reject(f"{proposal.name} is not .safetensors")
    layout = layout_options.make_layout(axes, conjugate, subcarrier_order, units, field)
    target = Target(url, database, artifact)

    async def exchange(client: "httpx.AsyncClient") -> tuple[_Sent | None, Row, str | None]:
        sent, version = None, None
        if file is not None:
            described = raise_for_problem(await client.get(cell_path(cell))).json()
            found, fingerprints = _read_truths(file, described, layout)
            sent = await _send(client, path, fingerprints, coarse_sigma)
            if sent.proposed and (proposal or append):
                version = await _take_proposal(client, cell, found, fingerprints, sent, proposal, change, append=append)
        report = raise_for_problem(await client.get(path, params={"days": days})).json()
        return sent, report, version

    sent, report, version = run_session(target, exchange)
    if json:
        answer = {"sent": None if sent is None else sent._asdict(), "version": version, "report": report}
        print_json(answer)
        return
    if sent is not None:
        _print_sent(sent)
    cell_tables.print_truths(report)
    if version is not None:
        console().print(f"{len(sent.proposed) if sent else 0} fingerprints appended in version {version}")


async def _send(
    client: "httpx.AsyncClient", path: str, fingerprints: "Fingerprints", coarse_sigma: float | None
) -> _Sent:
    sent = _Sent([], 0, [])
    for items in _portions(fingerprints, coarse_sigma):
        found = await _send_patiently(client, path, items)
        first = len(sent.results)
        proposed = [first + number for number in found.proposed]
        sent = _Sent(sent.results + found.results, sent.counted + found.counted, sent.proposed + proposed)
    return sent


async def _send_patiently(client: "httpx.AsyncClient", path: str, items: list[Row]) -> _Sent:
    """Sends truths, and those again for which the service was too busy: users go first."""
    results, counted, proposed = [Row()] * len(items), 0, list[int]()
    left = list(range(len(items)))
    for tried in range(_TRIES):
        response = await client.post(path, json={"items": [items[number] for number in left]})
        busy = response.status_code == 503
        if not busy or tried == _TRIES - 1:
            answer = raise_for_problem(response).json()
            counted += answer["counted"]
            proposed += [left[number] for number in answer["proposed"]]
            for number, result in zip(left, answer["results"], strict=True):
                results[number] = result
            left = [number for number in left if results[number].get("problem", {}).get("status") == 503]
        if not left:
            break
        await asyncio.sleep(float(response.headers.get("retry-after", _PAUSE_S)))
    return _Sent(results, counted, sorted(proposed))


def _portions(fingerprints: "Fingerprints", coarse_sigma: float | None) -> Iterator[list[Row]]:
    from fingerpost import build_locate_body

    most = max(1, min(_MOST_SENT, _MOST_BYTES // fingerprints.csi[:1].nbytes))
    errors = np.random.default_rng(0).standard_normal((len(fingerprints), 2)).tolist()
    items: list[Row] = []
    labels = (fingerprints.positions.tolist(), fingerprints.times.tolist(), fingerprints.sigmas.tolist(), errors)
    for csi, (x, y), time, sigma, (east, north) in zip(fingerprints.csi, *labels, strict=True):
        item: Row = {"csi": build_locate_body("any", csi)["csi"], "x": x, "y": y, "sigma": sigma}
        if time:
            item["time"] = datetime.fromtimestamp(time, UTC).isoformat()
        if coarse_sigma is not None:
            place = {"x": x + coarse_sigma * east, "y": y + coarse_sigma * north}
            item["coarsePosition"] = place | {"hAccuracy": coarse_sigma}
        items.append(item)
        if len(items) == most:
            yield items
            items = []
    if items:
        yield items


async def _take_proposal(
    client: "httpx.AsyncClient",
    cell_id: str,
    cell: "Cell",
    fingerprints: "Fingerprints",
    sent: _Sent,
    file: Path | None,
    change: Change,
    *,
    append: bool,
) -> str | None:
    """Writes the proposed truths to `file`, and appends them; the version with them."""
    from reference_db.fingerprint_file import write_fingerprint_file
    from reference_db.fingerprints import Fingerprints

    rows = sent.proposed
    proposed = Fingerprints(
        fingerprints.csi[rows], fingerprints.positions[rows], fingerprints.times[rows], fingerprints.sigmas[rows]
    )
    with TemporaryDirectory() as folder:
        written = file or Path(folder) / "proposal.safetensors"
        try:
            write_fingerprint_file(written, cell, proposed)
        except OSError as error:
            raise ProblemReceived(f"{written.name} cannot be written: {error.strerror or error}") from error
        if not append:
            return None
        path = cell_path(cell_id, "fingerprints")
        version: str = raise_for_problem(await upload_file(client, "POST", path, written, *change)).json()["version"]
        return version


def _read_truths(file: Path, described: Row, layout: "Layout") -> "tuple[Cell, Fingerprints]":
    """The fingerprints of a file in the frame of the service's cell. Exits if they cannot be read."""
    from fingerpost.wire_cells import CellInput
    from reference_db.errors import ReferenceDatabaseError
    from reference_db.fingerprint_file import FingerprintFile
    from reference_db.fingerprints import check_fingerprints
    from service.updates.cell_wire import read_cell_input

    names = {field.alias or name for name, field in CellInput.model_fields.items()}
    known = CellInput.model_validate({name: value for name, value in described.items() if name in names})
    cell = read_cell_input(known, described["cellId"])
    try:
        read = FingerprintFile.open(file, layout)
        if read.cell is not None and read.cell.cell_id != cell.cell_id:
            fail(f"{file.name} describes cell {read.cell.cell_id}, not {cell.cell_id}")
        fingerprints = read.fingerprints(cell)
        check_fingerprints(fingerprints, cell)
    except ReferenceDatabaseError as error:
        fail(str(error) if str(error).startswith(file.name) else f"{file.name}: {error}")
    return cell, fingerprints


def _print_sent(sent: _Sent) -> None:
    refused = Counter(one["problem"]["cause"] for one in sent.results if "problem" in one)
    scores = [one["score"] for one in sent.results if "score" in one]
    inside = sum(score["inside"] for score in scores)
    said = [f"{len(sent.results)} truths sent, {inside} of {len(scores)} inside their ellipse"]
    said += [f"{len(scores) - sent.counted} were counted before"] * (sent.counted < len(scores))
    said += [f"{count} refused: {cause}" for cause, count in sorted(refused.items())]
    said.append(f"{len(sent.proposed)} would pay as fingerprints")
    console().print("; ".join(said), markup=False, highlight=False, soft_wrap=True)
