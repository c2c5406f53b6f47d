from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from reference_db import (
    AntennaArray,
    Cell,
    DirectoryStore,
    Fingerprints,
    Origin,
    References,
    Update,
    append_fingerprints,
    replace_cell,
    signal_feature,
)
from reference_db.azimuth import to_direction
from reference_db.stores.redis import RedisStore
from tests.redis_servers import PATIENCE_S, RedisServer, RedisServers, empty
from tests.reference_db.street_users import USERS

MakeFingerprints = Callable[..., Fingerprints]
Street = Callable[..., tuple[NDArray[np.float32], NDArray[np.complex64]]]


@pytest.fixture(scope="session")
def cell() -> Cell:
    return Cell(
        cell_id="florence-1",
        latitude_deg=43.7731,
        longitude_deg=11.2560,
        height=12.0,
        yaw=to_direction(61.0),
        array=AntennaArray(rows=1, columns=4),
        carrier_frequency=3.5e9,
        bandwidth=40e6,
        subcarriers=6,
    )


@pytest.fixture(scope="session")
def make_fingerprints(cell: Cell) -> MakeFingerprints:
    def make(n: int = 12, seed: int = 0) -> Fingerprints:
        random = np.random.default_rng(seed)
        shape = (n, cell.antennas, cell.subcarriers)
        csi = 1e-6 * (random.normal(size=shape) + 1j * random.normal(size=shape))
        return Fingerprints(
            csi=csi.astype(np.complex64),
            positions=random.uniform(10, 70, (n, 2)).astype(np.float32),
            times=1.7e9 + random.uniform(0, 3600, n),
            sigmas=np.full(n, 0.05, np.float32),
        )

    return make


@pytest.fixture(scope="session")
def origin() -> Origin:
    return Origin("ada", datetime(2026, 1, 2, tzinfo=UTC))


@pytest.fixture
def store(tmp_path: Path) -> DirectoryStore:
    return DirectoryStore(tmp_path / "store")


@pytest.fixture(scope="session")
def street() -> Street:
    """Users between scatterers: positions `[n, 2]` in 40 m x 40 m, CSI complex64 `[n, 16, 16]` with 40 MHz."""

    def make(n: int, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.complex64]]:
        positions = np.random.default_rng(seed).uniform((30, -20), (70, 20), (n, 2)).astype(np.float32)
        csi = np.zeros((n, 16, 16), np.complex128)
        for scatterer in ((40.0, 35.0), (75.0, -40.0), (95.0, 20.0), None):
            bounce = positions if scatterer is None else np.broadcast_to(scatterer, positions.shape)
            length = np.hypot(*bounce.T) + np.hypot(*(positions - bounce).T)
            array = np.exp(1j * np.pi * np.outer(bounce[:, 1] / np.hypot(*bounce.T), np.arange(16)))
            band = np.exp(-2j * np.pi * np.outer(length / 3e8, 3.5e9 + np.arange(16) * 2.5e6))
            gain = (1.0 if scatterer is None else 0.5) / length
            csi += gain[:, None, None] * array[:, :, None] * band[:, None, :]
        return positions, csi.astype(np.complex64)

    return make


@pytest.fixture(scope="module")
def references(street: Street) -> References:
    return References.of(*street(500))


@pytest.fixture(scope="module")
def users(street: Street) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Positions and features of users in the street."""
    positions, csi = street(USERS, seed=1)
    return positions, signal_feature(csi)


@pytest.fixture(params=["redis_server", "redis_cluster"])
def servers(request: pytest.FixtureRequest) -> RedisServers:
    servers: RedisServers = request.getfixturevalue(request.param)
    empty(servers)
    return servers


@pytest.fixture
def server(redis_server: RedisServer) -> RedisServer:
    empty(redis_server)
    return redis_server


@pytest.fixture
def open_redis() -> Iterator[Callable[[str], RedisStore]]:
    opened = []

    def open_one(url: str) -> RedisStore:
        opened.append(RedisStore(url, timeout_s=PATIENCE_S))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()


@pytest.fixture
def versions(make_fingerprints: MakeFingerprints, origin: Origin, cell: Cell) -> list[Update]:
    """Three successive versions."""
    updates = [replace_cell(None, cell, make_fingerprints(), origin)]
    for seed in (1, 2):
        updates.append(append_fingerprints(updates[-1].contents, make_fingerprints(3, seed), origin))
    return updates
