"""Answers about cells, printed for people."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import typer

from service.commands.options import console

if TYPE_CHECKING:
    import httpx

Json = dict[str, Any]

_IDS_SHOWN = 10


def show(answer: "httpx.Response", printed: Callable[[Json], None], json: bool) -> None:
    """Prints an answer, as a table or as it came."""
    if json:
        import msgspec

        typer.echo(msgspec.json.format(answer.content, indent=2))
    else:
        printed(answer.json())


def print_cells(listed: Json) -> None:
    from rich.markup import escape
    from rich.table import Table

    table = Table("cell", whole("version"), "fingerprints", "created", "author", "note")
    for cell in listed["cells"]:
        facts = (cell["cellId"], cell["version"], str(cell["fingerprints"]), _minute(cell["createdAt"]))
        table.add_row(*facts, escape(cell["author"]), escape(cell["note"]))
    for cell_id in listed.get("unreadable", []):
        table.add_row(cell_id, "[red]damaged[/red]", "", "", "", "")
    console().print(table)


def print_cell(cell: Json) -> None:
    from rich.markup import escape
    from rich.table import Table

    array, point, change, retention = cell["array"], cell["point"], cell["change"], cell["retention"]
    facts = Table(show_header=False, box=None)
    for name, value in (
        ("cell", cell["cellId"]),
        ("version", cell["version"]),
        ("created", f"{_minute(cell['createdAt'])} by {change['author'] or 'nobody named'}"),
        ("change", f"{change['action']}, {change['added']} added, {change['removed']} removed"),
        ("note", change["note"]),
        ("fingerprints", str(cell["fingerprints"])),
        ("kept", _kept(retention)),
        ("located by", cell["model"]["policy"]),
        ("base station", f"{point['lat']:.6f}, {point['lon']:.6f}, {cell['height']:g} m high"),
        ("array", f"{array['rows']} x {array['columns']}, broadside {cell['yawDeg']:.1f}° from east"),
        (
            "carrier",
            f"{cell['carrierFrequency'] / 1e9:g} GHz, {cell['bandwidth'] / 1e6:g} MHz, "
            f"{cell['subcarriers']} subcarriers",
        ),
        ("area", _area(cell["area"])),
    ):
        if value:
            facts.add_row(name, escape(value))
    console().print(facts)
    for calibration in cell["quality"].get("calibration", {}).values():
        console().print(_calibration(calibration))


def print_versions(listed: Json) -> None:
    from rich.markup import escape
    from rich.table import Table

    columns = (
        whole("version"),
        "created",
        "author",
        "change",
        "added",
        "removed",
        "fingerprints",
        "located by",
        "note",
    )
    table = Table(*columns)
    for one in listed["versions"]:
        counts = (str(one[name]) for name in ("added", "removed", "fingerprints"))
        who, why = escape(one["author"]), escape(one["note"])
        table.add_row(
            one["version"], _minute(one["createdAt"]), who, one["action"], *counts, one["model"]["policy"], why
        )
    console().print(table)
    for number in listed.get("unreadable", []):
        console().print(f"version {number} is damaged")
    if "next" in listed:
        console().print(f"older ones: --before {listed['next']}")


def print_diff(diff: Json) -> None:
    from rich.table import Table

    table = Table("", *(whole(diff[side]["version"]) for side in ("before", "after")))
    sides = (diff["before"], diff["after"])
    table.add_row("fingerprints", *(str(side["fingerprints"]) for side in sides))
    table.add_row("extent (m)", *(_extent(side["extent"]) for side in sides))
    for one in diff["description"] + diff["retention"] + diff["model"]:
        table.add_row(one["field"], str(one["before"]), str(one["after"]))
    console().print(table)
    for name in ("added", "removed"):
        ids = diff[name]["ids"][:_IDS_SHOWN]
        more = " ..." if diff[name]["count"] > len(ids) else ""
        console().print(f"{diff[name]['count']} {name} {' '.join(ids)}{more}", highlight=False, soft_wrap=True)


def print_fingerprints(listed: Json) -> None:
    from rich.table import Table

    table = Table("id", "x (m)", "y (m)", "measured", "sigma (m)")
    for one in listed["fingerprints"]:
        place = (f"{one['x']:.2f}", f"{one['y']:.2f}")
        table.add_row(one["id"], *place, one.get("time", "unknown"), f"{one['sigma']:.3g}")
    console().print(table)
    console().print(f"{len(listed['fingerprints'])} of {listed['count']} in version {listed['version']}")
    if "next" in listed:
        console().print(f"more: --after {listed['next']}")


def print_preview(preview: Json) -> None:
    version = f"the {preview['fingerprints']} fingerprints of version {preview['version']}"
    console().print(f"{preview['selected']} of {version} would be deleted")


def whole(name: str) -> Any:
    """A column whose words other commands take, however narrow the terminal is."""
    from rich.table import Column

    return Column(name, no_wrap=True)


def _calibration(calibration: Json) -> Any:
    from rich.table import Table

    title = f"{calibration['artifact']}: errors in metres, {calibration['samples']} fingerprints left out in turn"
    radius = f"stated radius ({calibration['confidence']:.0%})"
    errors = Table("coarse position", "mean", "median", "95 %", radius, title=title)
    for rung in calibration["rungs"]:
        position = "none" if rung["sigma"] is None else f"± {rung['sigma']:g} m"
        errors.add_row(position, *(f"{rung[figure]:.2f}" for figure in ("mean", "median", "p95", "radius")))
    return errors


def _area(area: dict[str, float] | None) -> str:
    return "" if area is None else "west {west:g}, south {south:g}, east {east:g}, north {north:g} m".format(**area)


def _kept(retention: Json) -> str:
    limits = (
        ("maxAgeS", "{:g} s", "for "),
        ("maxFingerprints", "{}", "at most "),
        ("minSpacingM", "{:g} m", "no nearer than "),
    )
    said = [word + form.format(retention[name]) for name, form, word in limits if retention[name] is not None]
    return ", ".join(said)


def _extent(extent: list[float] | None) -> str:
    return "" if extent is None else "{:.1f}, {:.1f} to {:.1f}, {:.1f}".format(*extent)


def _minute(timestamp: str) -> str:
    return f"{timestamp[:16].replace('T', ' ')}Z"
