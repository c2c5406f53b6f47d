"""One model, cells of any array and grid."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from reference_db import AntennaArray, Cell, CellVersion, Fingerprints
from service.errors import InferenceFailed
from service.inference.channels import Channels
from service.inference.estimator import Estimator
from service.inference.frame_cache import as_known
from service.inference.mateformer_session import MateformerSession, as_users, example_cell
from service.inference.tiles import Neighbourhood, Tiles
from service.inference.user import Estimate, User
from service.telemetry.metrics import Metrics
from service.telemetry.stopwatch import Stopwatch
from tests.service.tiny_artifact import RADIOS, SIGMA_M, write_tiny_artifact
from tests.service.tiny_cell import version_of

ARRAYS = {
    "linear": (AntennaArray(rows=1, columns=4), 3),
    "planar": (AntennaArray(rows=4, columns=4), 24),
    "polarised": (AntennaArray(rows=2, columns=2, polarisations=2), 12),
    "single": (AntennaArray(rows=1, columns=1), 16),
}
STREET = np.stack([np.arange(60), np.zeros(60)], axis=1).astype(np.float32)


def make_cell(name: str) -> Cell:
    array, subcarriers = ARRAYS[name]
    return Cell(
        cell_id=name,
        latitude_deg=43.7,
        longitude_deg=11.2,
        height=10,
        yaw=0,
        array=array,
        carrier_frequency=3.5e9,
        bandwidth=40e6,
        subcarriers=subcarriers,
    )


def positive(cell: Cell, n: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    return random.uniform(0.5, 1, (n, cell.antennas, cell.subcarriers)).astype(np.complex64)


@pytest.fixture(scope="module")
def versions() -> dict[str, CellVersion]:
    """Each street is as many metres further north as its cell has antennas."""
    return {name: version_at(make_cell(name)) for name in ARRAYS}


def version_at(cell: Cell) -> CellVersion:
    places = STREET + np.float32([0, cell.antennas])
    labels = np.zeros(len(places)), np.linspace(0.05, 1, len(places), dtype=np.float32)
    return version_of(cell, Fingerprints(positive(cell, len(places)), places, *labels))


@pytest.fixture(params=[0.0, 2.0], ids=["alone", "by frames"])
def session(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[MateformerSession]:
    with closing(
        MateformerSession(write_tiny_artifact(tmp_path, tile_pitch=request.param), 1, ["CPUExecutionProvider"])
    ) as one:
        yield one


def user(version: CellVersion, east: float, sign: float = 1.0) -> User:
    csi = sign * positive(version.cell, 1, seed=round(east))[0]
    pairs = csi.view(np.float32).reshape(*csi.shape, 2)
    return User(version, pairs, np.array([east, version.cell.antennas], np.float32), 0.1)


def locate(session: MateformerSession, estimator: Estimator, users: list[User]) -> list[Estimate]:
    found = session.submit(estimator.locate, users, Stopwatch()).result()
    assert all(isinstance(one, Estimate) for one in found)
    return [one for one in found if isinstance(one, Estimate)]


def test_users_of_cells_of_different_shapes_are_located_in_one_dispatch(
    session: MateformerSession, versions: dict[str, CellVersion]
) -> None:
    estimator = Estimator(session, 64, 2**20, Metrics())
    users = [user(versions[name], east) for east in (20.0, 40.0) for name in versions]
    doubtful = 3  # its answer is NaN, nobody else's
    users[doubtful] = user(versions["single"], 20.0, sign=-1.0)
    found = locate(session, estimator, users)
    for i, (one, asked) in enumerate(zip(found, users, strict=True)):
        if i == doubtful:
            assert np.isnan(one.position).all()
            continue
        np.testing.assert_allclose(one.position, asked.coarse, atol=2.5)
        np.testing.assert_allclose(one.covariance, SIGMA_M**2 * np.eye(2), rtol=1e-6)
    alone = [locate(session, estimator, [asked])[0].position for asked in users]
    np.testing.assert_allclose([one.position for one in found], alone, atol=1e-3)


def test_a_dispatch_describes_each_cell_once(
    session: MateformerSession, versions: dict[str, CellVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    estimator = Estimator(session, 64, 2**20, Metrics())
    users = [user(versions[name], east) for east in (20.0, 21.0, 40.0) for name in ("linear", "planar")]
    locate(session, estimator, users)  # encodes the frames
    described: list[int] = []
    describe = session.describe
    monkeypatch.setattr(session, "describe", lambda channel, csi: described.append(len(csi)) or describe(channel, csi))
    locate(session, estimator, users)
    if session.has_frames:
        assert described == [3, 3]
    else:
        assert described[:2] == [3, 3]


def test_the_model_gets_the_label_errors_of_each_fingerprint(
    session: MateformerSession, versions: dict[str, CellVersion]
) -> None:
    channels = Channels()
    near: list[Neighbourhood] = []
    for version in (versions["planar"], versions["single"], versions["planar"]):
        near += Tiles(0.0, channels).neighbourhoods(version, version.positions[5 * len(near) + 3 :][:1], 8)
    known = session.submit(as_known, near, session.describe).result()
    for i, one in enumerate(near):
        np.testing.assert_array_equal(known["sigmas_known"][i], one.version.contents.sigmas[one.rows])
        np.testing.assert_array_equal(known["positions_known"][i], one.version.positions[one.rows])
        described = session.submit(session.describe, one.channel, one.version.csi_of(one.rows)).result()
        np.testing.assert_allclose(known["features_known"][i], described, rtol=1e-6)


def test_a_transform_is_made_once_for_a_version(versions: dict[str, CellVersion]) -> None:
    channels = Channels()
    assert channels.of(versions["planar"]) is channels.of(versions["planar"])
    assert channels.of(versions["planar"]).key != channels.of(versions["linear"]).key


def test_memory_counts_the_transform(session: MateformerSession, versions: dict[str, CellVersion]) -> None:
    estimator, version = Estimator(session, 4, 2**20, Metrics()), versions["planar"]
    assert estimator.resident_bytes(version) == version.resident_bytes + Channels().of(version).nbytes


def test_a_model_is_proved_with_a_radio_inside_its_ranges() -> None:
    assert RADIOS.reason_against(example_cell(RADIOS)) is None
    for narrow in (
        {"rows": {"minimum": 2, "maximum": 4}, "antennas": {"minimum": 4, "maximum": 256}},
        {"columns": {"minimum": 3, "maximum": 5}, "subcarriers": {"minimum": 40, "maximum": 48}},
        {"antennas": {"minimum": 32, "maximum": 32}, "polarisations": {"minimum": 2, "maximum": 2}},
    ):
        contract = type(RADIOS).model_validate(RADIOS.model_dump() | narrow)
        assert contract.reason_against(example_cell(contract)) is None


def test_ranges_that_no_radio_is_inside_are_told() -> None:
    contract = type(RADIOS).model_validate(RADIOS.model_dump() | {"antennas": {"minimum": 5000, "maximum": 6000}})
    with pytest.raises(InferenceFailed, match="no radio is inside all ranges of the artifact: antennas is"):
        example_cell(contract)


@pytest.mark.parametrize("accuracy", [0.0, 1e-30, 1e-10])
def test_a_coarse_position_said_to_be_exact_has_a_weight_that_float32_holds(accuracy: float) -> None:
    asked = as_users(np.zeros((1, 2), np.float32), np.ones((1, 2), np.float32), np.float32([accuracy]))
    with np.errstate(all="raise"):
        squared_weight = asked["accuracy"] ** -4  # the fused precision's determinant holds it
    assert np.isfinite(squared_weight).all()
    np.testing.assert_array_equal(asked["coarse"], [[[1, 1]]])
