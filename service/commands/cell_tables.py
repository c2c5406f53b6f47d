"""Prints the API's answers about cells as tables."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from service.commands.options import console, print_json
from service.commands.tables import id_column, make_table, number_column, print_table, text_column
from service.durations import describe_duration

if TYPE_CHECKING:
    import httpx
    from rich.table import Table

Json = dict[str, Any]

_IDS_SHOWN = 10
_VERDICTS = {
    "HOLDS": "holds",
    "TOO_FEW_INSIDE": "[red]too-few[/red]",
    "MORE_INSIDE": "[yellow]more[/yellow]",
    "UNDECIDED": "undecided",
}
_STALE = timedelta(days=90)  # age of a cell's newest fingerprint; as in the console


def print_response(response: "httpx.Response", print_table: Callable[[Json], None], json: bool) -> None:
    """Prints a response as a table, or as indented JSON."""
    if json:
        print_json(response.json())
    else:
        print_table(response.json())


def print_cells(listed: Json) -> None:
    from rich.markup import escape

    columns = (id_column("cell"), id_column("state"), id_column("version"), number_column("points"))
    table = make_table(*columns, text_column("created"))
    faults = {fault["cellId"]: fault for fault in listed.get("faults", [])}
    for cell in listed["cells"]:
        state, reason = _describe_state(cell, faults.get(cell["cellId"]))
        created = ", ".join([_format_minute(cell["createdAt"]), *_describe_origin(cell)])
        about = "\n".join(filter(None, (reason, created)))
        table.add_row(cell["cellId"], state, cell["version"], str(cell["fingerprints"]), escape(about))
    for cell_id in listed.get("unreadable", []):
        state, reason = _describe_state({}, faults.get(cell_id, {}))
        table.add_row(cell_id, state, "", "", escape(reason))
    print_table(table)


def print_cell(cell: Json) -> None:
    from rich.markup import escape
    from rich.table import Table

    array, point, change, retention = cell["array"], cell["point"], cell["change"], cell["retention"]
    facts = Table(show_header=False, box=None)
    for name, value in (
        ("cell", cell["cellId"]),
        ("version", cell["version"]),
        ("created", f"{_format_minute(cell['createdAt'])} by {change['author'] or 'unknown'}"),
        ("change", f"{change['action']}, {change['added']} added, {change['removed']} removed"),
        ("note", change["note"]),
        ("fingerprints", str(cell["fingerprints"])),
        ("limits", _describe_limits(retention)),
        ("located by", cell["model"]["policy"]),
        ("base station", f"{point['lat']:.6f}, {point['lon']:.6f}, {cell['height']:g} m high"),
        ("array", f"{_describe_array(array)}, azimuth {cell['azimuthDeg']:.1f}°"),
        (
            "carrier",
            f"{cell['carrierFrequency'] / 1e9:g} GHz, {cell['bandwidth'] / 1e6:g} MHz, "
            f"{cell['subcarriers']} subcarriers",
        ),
        ("timing", _describe_timing(cell)),
        ("area", _describe_area(cell.get("area"))),
    ):
        if value:
            facts.add_row(name, escape(value))
    console().print(facts)
    for finding in cell["quality"].get("findings", []):
        insisted = " (published by force)" if finding["severity"] == "refused" else ""
        console().print(f"[yellow]warning[/yellow]{insisted}: {escape(finding['reason'])}; {escape(finding['advice'])}")
    for calibration in cell["quality"].get("calibration", {}).values():
        console().print()
        print_table(_calibration_table(calibration))


def print_versions(listed: Json) -> None:
    from rich.markup import escape

    columns = (id_column("version"), id_column("created"), number_column("fingerprints"), text_column("change"))
    table = make_table(*columns)
    for one in listed["versions"]:
        change = [f"{one['action']}, +{one['added']} -{one['removed']}", *_describe_origin(one)]
        if one["model"]["policy"] != "auto":
            change.append(f"located by {one['model']['policy']}")
        if calibrated := one.get("calibratedOn"):
            change.append(f"calibrated on version {calibrated}")
        facts = (one["version"], _format_minute(one["createdAt"]), str(one["fingerprints"]))
        table.add_row(*facts, escape("\n".join(change)))
    print_table(table)
    for number in listed.get("unreadable", []):
        console().print(f"version {number} is damaged")
    if "next" in listed:
        console().print(f"older versions: --before {listed['next']}")


def print_diff(diff: Json) -> None:
    sides = (diff["before"], diff["after"])
    table = make_table(id_column(""), *(text_column(side["version"]) for side in sides))
    table.add_row("fingerprints", *(str(side["fingerprints"]) for side in sides))
    table.add_row("extent (m)", *(_describe_extent(side.get("extent")) for side in sides))
    for one in diff["description"] + diff["retention"] + diff["model"]:
        table.add_row(one["field"], _describe_value(one.get("before")), _describe_value(one.get("after")))
    print_table(table)
    for name in ("added", "removed"):
        ids = diff[name]["ids"][:_IDS_SHOWN]
        more = " ..." if diff[name]["count"] > len(ids) else ""
        console().print(f"{diff[name]['count']} {name} {' '.join(ids)}{more}", highlight=False)


def print_fingerprints(listed: Json) -> None:
    columns = (id_column("id"), number_column("x (m)"), number_column("y (m)"), id_column("measured"))
    table = make_table(*columns, number_column("sigma (m)"))
    for one in listed["fingerprints"]:
        place = (f"{one['x']:.2f}", f"{one['y']:.2f}")
        measured = _format_second(one["time"]) if one.get("time") else "unknown"
        table.add_row(one["id"], *place, measured, f"{one['sigma']:.3g}")
    print_table(table)
    console().print(f"{len(listed['fingerprints'])} of {listed['count']} in version {listed['version']}")
    if "next" in listed:
        console().print(f"more fingerprints: --after {listed['next']}")


def print_preview(preview: Json) -> None:
    version = f"the {preview['fingerprints']} fingerprints of version {preview['version']}"
    console().print(f"{preview['selected']} of {version} would be deleted")


def print_retention_preview(preview: Json) -> None:
    version = f"the {preview['fingerprints']} fingerprints of version {preview['version']}"
    console().print(f"{preview['selected']} of {version} would be removed", highlight=False, soft_wrap=True)
    for field, reason in (("tooOld", "too old"), ("tooClose", "too close to a newer one"), ("tooMany", "too many")):
        if preview[field]:
            console().print(f"  {preview[field]} {reason}", highlight=False)


def print_forgetting_preview(preview: Json) -> None:
    console().print(f"{preview['fingerprints']} fingerprints of version {preview['version']} would be forgotten")
    console().print(f"versions that would be removed: {_describe_numbers(preview['versions'])}")


def print_forgotten(forgotten: Json) -> None:
    console().print(f"{forgotten['forgotten']} fingerprints forgotten in version {forgotten['version']}")
    console().print(f"versions removed: {_describe_numbers(forgotten['removedVersions'])}")
    console().print(f"{forgotten['fingerprints']} fingerprints left; the others are gone since {forgotten['goneAt']}")


def print_removal(removal: Json) -> None:
    size = f"{len(removal['versions'])} versions, {removal['segments']} segments, {removal['bytes']} bytes"
    console().print(f"cell {removal['cellId']} is deleted: {size}", highlight=False)


def print_collected(collected: Json) -> None:
    table = make_table(id_column("cell"), text_column("versions"), number_column("segments"), number_column("bytes"))
    for one in collected["cells"]:
        facts = (str(one["segments"]), str(one["bytes"]))
        table.add_row(one["cellId"], _describe_numbers(one["versions"]), *facts)
    for cell_id in collected.get("unreadable", []):
        table.add_row(cell_id, "[red]damaged[/red]", "", "")
    print_table(table)
    done = "would be removed" if collected["dryRun"] else "removed"
    count = sum(len(one["versions"]) for one in collected["cells"])
    console().print(f"{count} versions {done}, {sum(one['bytes'] for one in collected['cells'])} bytes")


def print_truths(report: Json) -> None:
    if "total" not in report:
        console().print(f"no truth of cell {report['cellId']} was sent in these days")
        return
    rows = [("all", report["total"])]
    rows += [(one["source"], one) for one in report["sources"]]
    rows += [(one["version"], one) for one in report["versions"]]
    rows += [(one["day"], one) for one in report["days"]]
    shares = make_table(
        id_column("per cent"), *map(number_column, ("truths", "inside", "interval", "stated", "verdict"))
    )
    lengths = make_table(id_column("metres"), *map(number_column, ("bias east", "bias north", "mean", "median", "p95")))
    for name, one in rows:
        interval = f"{one['coverageLow']:.1f}-{one['coverageHigh']:.1f}"
        share = (f"{one['coverage']:.1f}", interval, f"{one['confidence']:g}", _VERDICTS[one["verdict"]])
        shares.add_row(name, str(one["truths"]), *share)
        bias = one["bias"]
        metres = (bias["east"], bias["north"], one["meanError"], one["medianError"], one["p95Error"])
        lengths.add_row(name, *(f"{length:.2f}" for length in metres))
    print_table(shares)
    console().print()
    print_table(lengths)
    console().print("inside: the share of truths that the ellipses hold; bias: answer minus truth", highlight=False)


def _calibration_table(calibration: Json) -> "Table":
    title = f"{calibration['artifact']}: error in metres, leave-one-out on {calibration['samples']} fingerprints"
    if calibration.get("version") is not None:
        title += f" of version {calibration['version']}, {calibration['changed']} added or removed since"
    radius = f"stated radius ({calibration['confidence']:.0%})"
    columns = (number_column(name) for name in ("mean", "median", "95 %", radius))
    errors = make_table("coarse position", *columns, title=title)
    for level in calibration["rungs"]:
        position = "none" if level.get("sigma") is None else f"± {level['sigma']:g} m"
        errors.add_row(position, *(f"{level[figure]:.2f}" for figure in ("mean", "median", "p95", "radius")))
    return errors


def _describe_state(cell: Json, fault: Json | None) -> tuple[str, str]:
    """The most urgent state of a cell, as the console has it, and the reason. An older service tells no states."""
    if fault is not None:
        unreachable = fault.get("cause") == "STORE_UNAVAILABLE"
        return f"[red]{'unreachable' if unreachable else 'damaged'}[/red]", fault.get("detail", "")
    if not_served := cell.get("notServed"):
        too_small = not_served["cause"] == "CELL_TOO_SMALL"
        return f"[red]{'too small' if too_small else 'not served'}[/red]", not_served["detail"]
    if refused := cell.get("refused"):
        return "[yellow]refused[/yellow]", refused
    if (drift := cell.get("drift")) and drift["signs"]:
        since = _format_minute(drift["since"])
        return (
            "[yellow]drifted[/yellow]",
            f"{', '.join(drift['signs'])} no longer fit the calibration since about {since}",
        )
    if (measured := cell.get("newestMeasured")) and datetime.now(UTC) - datetime.fromisoformat(measured) > _STALE:
        return "[yellow]stale[/yellow]", f"last measured {_format_minute(measured)}"
    return "served" if "models" in cell else "", ""


def _describe_origin(change: Json) -> list[str]:
    """The author and the note of a change, where they are known."""
    return [f"by {change['author']}"] * bool(change["author"]) + [change["note"]] * bool(change["note"])


def _describe_value(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {one}" for name, one in value.items())
    return "none" if value is None else str(value)


def _describe_array(array: Json) -> str:
    """An older service knows one polarisation."""
    polarised = ", two polarisations" if array.get("polarisations", 1) == 2 else ""
    return f"{array['rows']} x {array['columns']}{polarised}"


def _describe_timing(cell: Json) -> str:
    """Empty where nothing is known."""
    survey, users = cell.get("surveyStoNs"), cell.get("userStoNs")
    stated = [
        f"{whose} {sto_ns:g} ns (1 sigma)"
        for whose, sto_ns in (("fingerprints", survey), ("users", users))
        if sto_ns is not None
    ]
    if survey is not None and users is not None and users > survey:
        stated.append("so fingerprints are degraded alike")
    return ", ".join(stated)


def _describe_area(area: dict[str, float] | None) -> str:
    return "" if area is None else "west {west:g}, south {south:g}, east {east:g}, north {north:g} m".format(**area)


def _describe_limits(retention: Json) -> str:
    limits = (
        ("maxAgeS", "age {}"),
        ("maxFingerprints", "{} fingerprints"),
        ("minSpacingM", "spacing {:g} m"),
    )
    if retention.get("maxAgeS") is not None:
        retention = retention | {"maxAgeS": describe_duration(retention["maxAgeS"])}
    return ", ".join(text.format(retention[name]) for name, text in limits if retention.get(name) is not None)


def _describe_extent(extent: list[float] | None) -> str:
    return "" if extent is None else "{:.1f}, {:.1f} to {:.1f}, {:.1f}".format(*extent)


def _format_minute(timestamp: str) -> str:
    return f"{timestamp[:16].replace('T', ' ')}Z"


def _format_second(timestamp: str) -> str:
    return f"{timestamp[:19].replace('T', ' ')}Z"


def _describe_numbers(numbers: list[int]) -> str:
    """Runs of numbers, as in ``1-4, 7``."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1][1:] = [number]
        else:
            runs.append([number])
    return ", ".join("-".join(map(str, run)) for run in runs) or "none"
