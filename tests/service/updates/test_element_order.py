"""The order of a planar array's elements, from traced paths to a bearing: row by row everywhere."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.radio.front_end import Radio
from models.radio.path_table import PathTable
from models.radio.survey import write_survey
from reference_db import AntennaArray, read_fingerprint_file
from reference_db.path_features import estimate_path_features
from service.settings import Settings
from tests.service.running import running
from tests.service.tiny_artifact import ANTENNAS, only, write_tiny_artifact

TRACED = Path(__file__).parents[2] / "models" / "data" / "etoile-0900.paths.safetensors"
ARRAY = AntennaArray(rows=2, columns=16)
REFERENCES = 200


@pytest.mark.anyio
async def test_a_planar_array_shows_a_user_at_minus_40_degrees_where_the_user_is(tmp_path: Path) -> None:
    """Traced, synthesised, imported and exported over HTTP, estimated."""
    table = PathTable.load(TRACED)
    users = np.flatnonzero(table.reached)[:REFERENCES]
    in_sight = table.line_of_sight[users]
    azimuths = np.arctan2(table.users[users, 1], table.users[users, 0])
    seen = int(np.flatnonzero(in_sight)[0])
    turned = replace(table, site=replace(table.site, yaw=float(azimuths[seen]) + math.radians(40)))
    file, _ = write_survey(turned, Radio(array=ARRAY, subcarriers=64, bandwidth=100e6), REFERENCES, 1, 1.7e9, tmp_path)

    write_tiny_artifact(tmp_path, radios=only(ANTENNAS))
    settings = Settings(artifact_directory=tmp_path, database_directory=tmp_path / "database")
    async with running(settings) as service:
        binary = {"Content-Type": "application/octet-stream"}
        forced = {"force": "true"}  # the network that takes no time expects another array
        created = await service.put(
            f"/cells/{table.site.name}", params=forced, content=file.read_bytes(), headers=binary
        )
        assert created.status_code == 201, created.text
        exported = await service.get(f"/cells/{table.site.name}/export")
    (tmp_path / "exported.safetensors").write_bytes(exported.content)
    cell, fingerprints = read_fingerprint_file(tmp_path / "exported.safetensors")
    row = int(np.linalg.norm(fingerprints.positions - table.users[users[seen], :2], axis=1).argmin())
    bearings = estimate_path_features(fingerprints.csi, cell)[:, 0] - cell.yaw

    assert math.degrees(_wrapped(bearings[row])) == pytest.approx(-40, abs=1)
    true = np.arctan2(fingerprints.positions[:, 1], fingerprints.positions[:, 0]) - cell.yaw
    before_the_array = in_sight & (np.abs(_wrapped(true)) < math.radians(60))
    assert before_the_array.sum() > 40
    assert np.median(np.abs(_wrapped(bearings - true))[before_the_array]) < math.radians(1)


def _wrapped(angle: np.ndarray) -> np.ndarray:
    return (angle + math.pi) % (2 * math.pi) - math.pi
