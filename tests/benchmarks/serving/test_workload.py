from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from benchmarks.serving.cells import street, town
from benchmarks.serving.full_graph import Users
from benchmarks.serving.generator import Requests
from benchmarks.serving.workload import SPACING_M, WARM, make_load, make_rival_load, spread_users, without_coarse
from fingerpost.wire import BatchRequest, LocateRequest

CELLS = [street(0), street(1)]


def bodies(requests: Requests) -> list[bytes]:
    """The bodies in the generator's file."""
    data = requests.path.read_bytes()
    index = np.frombuffer(data, np.uint64, 2 * requests.count, 16).reshape(-1, 2).astype(int)
    return [data[offset : offset + length].partition(b"\r\n\r\n")[2] for offset, length in index.tolist()]


def places(requests: Requests) -> list[tuple[Any, ...]]:
    """Cell and square of every user in every request."""
    found = []
    for body in bodies(requests):
        if requests.users == 1:
            items = [LocateRequest.model_validate(msgspec.msgpack.decode(body))]
        else:
            items = BatchRequest.model_validate(msgspec.msgpack.decode(body)).items
        for item in items:
            place = np.array([item.coarse_position.x, item.coarse_position.y])
            found.append((item.cell_id, *np.floor(place / SPACING_M).astype(int).tolist()))
    return found


@pytest.mark.parametrize("users", [1, 16])
def test_every_cold_user_is_in_a_new_square(users: int, tmp_path: Path) -> None:
    load = make_load("cold", users, "msgpack", CELLS, tmp_path)
    asked, before = places(load.requests), places(load.warmup)
    assert len({*asked, *before}) == len(asked) + len(before)
    assert len(asked) > 500
    assert {place[0] for place in before} == {"street-0", "street-1"}
    assert load.once


@pytest.mark.parametrize("users", [1, 16, 64])
def test_every_warm_user_is_in_a_different_square_and_in_the_warm_up(users: int, tmp_path: Path) -> None:
    load = make_load("warm-unique", users, "msgpack", CELLS, tmp_path)
    asked = places(load.requests)
    assert len(set(asked)) == len(asked) == WARM
    assert load.warmup == load.requests
    assert not load.once


def test_all_users_of_a_batch_are_in_one_cell(tmp_path: Path) -> None:
    asked = places(make_load("warm-unique", 16, "msgpack", CELLS, tmp_path).requests)
    assert all(len({cell for cell, *_ in asked[i : i + 16]}) == 1 for i in range(0, len(asked), 16))


@pytest.mark.parametrize("users", [1, 64])
def test_sharing_users_are_in_one_square_with_different_channels(users: int, tmp_path: Path) -> None:
    load = make_load("shared", users, "msgpack", CELLS, tmp_path)
    assert len(set(places(load.requests))) == 1
    assert len(set(bodies(load.requests))) == load.requests.count


def test_json_and_msgpack_have_the_same_content(tmp_path: Path) -> None:
    packed, text = (make_load("shared", 1, format, CELLS, tmp_path).requests for format in ("msgpack", "json"))
    assert [LocateRequest.model_validate_json(body) for body in bodies(text)] == [
        LocateRequest.model_validate(msgspec.msgpack.decode(body)) for body in bodies(packed)
    ]


def test_rivals_get_the_same_users(tmp_path: Path) -> None:
    asked = spread_users(*CELLS[0])
    requests = make_rival_load(4, *CELLS[0], tmp_path).requests
    rows = np.frombuffer(bodies(requests)[0], np.float32).reshape(4, -1)
    users = Users.of_rows(rows, 32, 32)
    assert np.array_equal(users.csi.view(np.complex64)[..., 0], asked.csi[:4])
    assert np.array_equal(users.coarse, asked.coarse[:4])


def test_a_user_without_a_coarse_position_sends_none(tmp_path: Path) -> None:
    load = without_coarse(spread_users(*CELLS[0]).part(slice(3)), tmp_path)
    items = [LocateRequest.model_validate(msgspec.msgpack.decode(body)) for body in bodies(load.requests)]
    assert [item.coarse_position for item in items] == [None] * 3


@pytest.mark.parametrize("n", [1_000, 2_000, 10_000])
def test_a_town_grows_in_area_and_keeps_its_density(n: int) -> None:
    cell, fingerprints = town(n, antennas=16)
    assert fingerprints.csi.shape == (n, 16, 16)
    assert cell.antennas == cell.subcarriers == 16
    assert len(np.unique(fingerprints.positions, axis=0)) == n
    near = np.linalg.norm(fingerprints.positions[:200, np.newaxis] - fingerprints.positions, axis=2)
    assert 0.2 < np.median(np.partition(near, 1, axis=1)[:, 1]) < 0.8


def test_a_town_begins_with_the_same_places_whatever_its_size() -> None:
    (_, small), (_, large) = town(1_000, antennas=8), town(10_000, antennas=8)
    assert np.array_equal(small.positions, large.positions[:1_000])
    assert np.array_equal(small.csi, large.csi[:1_000])


def test_streets_have_the_same_positions_and_different_channels() -> None:
    (cell, first), (other, third) = street(0), street(2)
    assert (cell.cell_id, other.cell_id) == ("street-0", "street-2")
    assert np.array_equal(first.positions, third.positions)
    assert not np.allclose(first.csi, third.csi, rtol=0.1)
    assert np.allclose(np.abs(first.csi), np.abs(third.csi), rtol=1e-5)
