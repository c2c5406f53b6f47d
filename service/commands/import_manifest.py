"""A manifest of cells to import: YAML, JSON or CSV. Paths in it are relative to its folder."""

import csv
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from reference_db.cell import Cell, CellId, list_errors
from reference_db.errors import BadCellDescription, ReferenceDatabaseError
from reference_db.fingerprint_file import FingerprintFile, read_cell_file
from reference_db.layout import Layout
from reference_db.sources.source import SUFFIXES, SUFFIXES_IN_WORDS

_SUFFIXES = (".yaml", ".yml", ".json", ".csv")


class ManifestEntry(Layout):
    """A cell of a manifest, and how its file is laid out. `file`: None for a cell without fingerprints."""

    cell: CellId | None = None
    file: str | None = None
    cell_file: str | None = None


class PlannedCell(NamedTuple):
    """A cell to import. `described`: its description, if that is in a file of its own."""

    cell_id: str
    file: Path | None
    described: Cell | None
    layout: Layout


class BadManifest(Exception):
    """A manifest cannot be read. `faults`: a sentence for each."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def read_manifest(path: Path) -> list[PlannedCell]:
    """The cells of a manifest. Looks for their files, and reads their descriptions. Raises `BadManifest`."""
    planned: list[PlannedCell] = []
    faults: list[str] = []
    for number, fields in enumerate(_read_entries(path), start=1):
        try:
            planned.append(_plan(ManifestEntry.model_validate(fields), path.parent))
        except ValidationError as error:
            faults += [f"cell {number}: {fault}" for fault in list_errors(error)]
        except BadCellDescription as error:
            faults += [f"cell {number}: {fault}" for fault in error.faults]
        except (ReferenceDatabaseError, ValueError) as error:
            faults.append(f"cell {number}: {error}")
    named = [one.cell_id for one in planned]
    faults += [
        f"cell {name} is named {named.count(name)} times" for name in dict.fromkeys(named) if named.count(name) > 1
    ]
    if faults:
        raise BadManifest(faults)
    return planned


def _read_entries(path: Path) -> list[Any]:
    try:
        match path.suffix.lower():
            case ".csv":
                return _read_table(path)
            case ".json":
                content = json.loads(path.read_bytes())
            case ".yaml" | ".yml":
                import yaml

                content = yaml.safe_load(path.read_bytes())
            case _:
                raise BadManifest([f"{path.name}: the suffix must be {', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]}"])
    except OSError as error:
        raise BadManifest([f"{path.name}: {error.strerror or error}"]) from error
    except ImportError as error:
        raise BadManifest([f"{path.name}: reading YAML needs the package PyYAML; or write JSON or CSV"]) from error
    except Exception as error:
        if isinstance(error, BadManifest):
            raise
        reason = " ".join(str(error).split())
        raise BadManifest([f"{path.name} cannot be read: {reason}"]) from error
    entries = content.get("cells") if isinstance(content, dict) and set(content) == {"cells"} else None
    if not isinstance(entries, list) or not entries:
        raise BadManifest([f"{path.name}: expected a list of cells under the name cells, and nothing else"])
    return entries


def _read_table(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file, without their empty fields. Raises `BadManifest` and `OSError`."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        table = csv.DictReader(file, strict=True)
        columns = table.fieldnames or []
        if len(columns) == 1 and re.search("[;\t]", columns[0]):
            raise BadManifest([f"{path.name}: write commas between its columns, not semicolons or tabs"])
        if unknown := [name for name in columns if name not in ManifestEntry.model_fields]:
            known = ", ".join(ManifestEntry.model_fields)
            raise BadManifest([f"{path.name}: no column is named {', '.join(map(repr, unknown))}; there are {known}"])
        rows = list(table)
    too_long = [number for number, row in enumerate(rows, start=1) if None in row]
    if too_long:
        raise BadManifest([f"cell {number}: it has more fields than the first line has names" for number in too_long])
    return [{name: value for name, value in row.items() if value} for row in rows]


def _plan(entry: ManifestEntry, folder: Path) -> PlannedCell:
    """Raises `ReferenceDatabaseError` or `ValueError`."""
    if entry.file is None and entry.cell_file is None:
        raise ValueError("it needs file, cell_file or both")
    described = None if entry.cell_file is None else read_cell_file(folder / entry.cell_file, entry.cell)
    layout = Layout.model_validate(entry.model_dump(include=set(Layout.model_fields)))
    file = None if entry.file is None else folder / entry.file
    if file is not None and not file.is_file():
        raise ValueError(f"there is no file {entry.file}")
    if file is not None and file.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{entry.file}: the suffix must be {SUFFIXES_IN_WORDS}")
    if described is not None and entry.cell not in (None, described.cell_id):
        raise ValueError(f"{entry.cell_file} describes cell {described.cell_id}, not {entry.cell}")
    name = entry.cell or (None if described is None else described.cell_id)
    if name is None and file is not None:
        own = FingerprintFile.open(file, layout).cell
        name = None if own is None else own.cell_id
    if name is None:
        raise ValueError(f"{entry.file} describes no cell; name it by cell, or describe it by cell_file")
    return PlannedCell(name, file, described, layout)
