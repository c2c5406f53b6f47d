"""Locates the test snapshots of corridors by a running service."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.demo import is_inside
from benchmarks.measured.corridors import CARRIER, Corridor
from benchmarks.measured.scores import Located
from benchmarks.serving.servers import fingerpost, running
from fingerpost import Client
from fingerpost.errors import Refused
from fingerpost.wire_provenance import Method
from fingerpost.wire_shapes import Local2dPointUncertaintyEllipse
from models.artifact import MANIFEST_FILE, MateformerManifest, Range


@dataclass(frozen=True)
class LocatedCorridors:
    """The answers of each corridor, and why the service would refuse the surveys of some, by corridor."""

    answers: Sequence[Located]
    faults: Mapping[str, Sequence[str]]


def locate_by_service(
    corridors: Sequence[Corridor], artifact: Path, folder: Path, snapshots: int, method: Method
) -> LocatedCorridors:
    """Locates all tests by a service of its own with default settings, in a new database below `folder`.

    Its surveys have so many snapshots of each point. Answers are kept in the folder: the same question is asked once.
    """
    kept = folder / f"answers-{_digest(corridors, artifact, snapshots, method)}.json"
    if kept.exists():
        return _read(kept)
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "database").mkdir(parents=True)
    with running(fingerpost(folder / "database", artifact)) as server, Client(server.url) as client:
        faults = {
            one.name: import_survey(client, one, folder / f"{one.name}.safetensors", snapshots) for one in corridors
        }
        answers = [locate_test(client, one, method) for one in corridors]
    found = LocatedCorridors(answers, {name: reasons for name, reasons in faults.items() if reasons})
    _write(found, kept)
    return found


def _digest(corridors: Sequence[Corridor], artifact: Path, snapshots: int, method: Method) -> str:
    parts = [(artifact / MANIFEST_FILE).read_bytes(), f"{snapshots} {method}".encode()]
    for corridor in corridors:
        parts += [part.csi.tobytes() + part.positions.tobytes() for part in (corridor.survey, corridor.test)]
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


def _write(found: LocatedCorridors, file: Path) -> None:
    answers = [[one.positions.tolist(), one.inside.tolist(), one.causes] for one in found.answers]
    file.write_text(json.dumps({"answers": answers, "faults": found.faults}))


def _read(file: Path) -> LocatedCorridors:
    content = json.loads(file.read_text())
    answers = [Located(np.array(at), np.array(inside), Counter(causes)) for at, inside, causes in content["answers"]]
    return LocatedCorridors(answers, content["faults"])


def import_survey(client: Client, corridor: Corridor, file: Path, snapshots: int) -> list[str]:
    """Imports `snapshots` of each point with force=true. Returns the reasons why the service would refuse them."""
    corridor.write_survey(file, snapshots)
    cell = client.cell(corridor.name)
    report = cell.preview_replacement(file)
    cell.replace(file, force=True)
    return [finding.what for finding in report.findings if finding.severity == "fault"]


def locate_test(client: Client, corridor: Corridor, method: Method) -> Located:
    """Posts every test snapshot without a coarse position. Raises `RuntimeError` if another method answers."""
    positions, inside, causes = [], [], Counter[str]()
    # Weighted kNN is a fallback, of a service whose model does not serve the radio.
    allow_fallback = method == "weighted-knn"
    for csi, truth in zip(corridor.test.csi, corridor.test.positions, strict=True):
        try:
            estimate = client.locate(corridor.name, csi, allow_fallback=allow_fallback)
        except Refused as refused:
            causes[refused.problem.cause] += 1
            positions.append((math.nan, math.nan))
            inside.append(math.nan)
            continue
        if estimate.provenance.source != method:
            raise RuntimeError(f"{estimate.provenance.source} answered instead of {method}")
        local = estimate.local_location_estimate
        assert isinstance(local, Local2dPointUncertaintyEllipse)
        positions.append((local.point.x, local.point.y))
        inside.append(float(is_inside(local, truth)))
    return Located(np.array(positions), np.array(inside), causes)


def write_unfit_artifact(artifact: Path, folder: Path) -> Path:
    """A copy of an artifact that serves none of these radios: weighted kNN locates their users instead."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(artifact, folder)
    manifest = MateformerManifest.model_validate_json((folder / MANIFEST_FILE).read_bytes())
    elsewhere = manifest.csi.model_copy(update={"carrier_frequency": Range(minimum=2 * CARRIER, maximum=3 * CARRIER)})
    (folder / MANIFEST_FILE).write_text(manifest.model_copy(update={"csi": elsewhere}).model_dump_json(indent=2))
    return folder
