import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from models.lwlm.data import STRONGEST_PATHS, Links, fold, load_links
from models.radio.channel import synthesise
from models.radio.first_path import first_paths
from models.radio.front_end import Radio
from models.radio.path_table import PathTable
from models.radio.tracing import table_path
from reference_db.cell import AntennaArray
from reference_db.path_features import SPEED_OF_LIGHT

A, S, BANDWIDTH = 8, 32, 40e6


@pytest.fixture
def copies(table: PathTable, tmp_path: Path) -> Path:
    """Ray-traced etoile-0900 with a second station at its place, turned and without the first 20 users' paths."""
    table.save(table_path(tmp_path, "etoile", 900))
    dropped = int(table.offsets[20])
    offsets = np.maximum(table.offsets - dropped, 0)
    fields = {
        name: getattr(table, name)[dropped:] for name in ("gain", "delay", "departure", "arrival", "interactions")
    }
    site = replace(table.site, station=1, yaw=table.site.yaw - 0.4)
    replace(table, site=site, offsets=offsets, **fields).save(table_path(tmp_path, "etoile", 900, 1))
    return tmp_path


def observe(links: Links, station: int, turned: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
    user = torch.arange(links.users)
    bandwidth = torch.full((links.users,), BANDWIDTH)
    csi, configuration, truth = links.observe(user, torch.full_like(user, station), A, S, bandwidth, turned)
    return torch.view_as_complex(csi), configuration, truth


@pytest.mark.parametrize("station", [0, 1])
def test_a_link_is_observed_as_the_synthesis_of_path_tables_does(copies: Path, station: int) -> None:
    links = load_links(["etoile:900"], 2, copies)
    paths = PathTable.load(table_path(copies, "etoile", 900, station))
    radio = Radio(array=AntennaArray(rows=1, columns=A), subcarriers=S, bandwidth=BANDWIDTH)
    expected = synthesise(paths, radio, paths.site.yaw)
    csi = observe(links, station)[0].numpy()
    few = paths.paths_per_user <= STRONGEST_PATHS
    assert few.mean() > 0.95
    scale = np.abs(expected).max((1, 2), keepdims=True).clip(1e-30)
    np.testing.assert_allclose((csi / scale)[few], (expected / scale)[few], atol=2e-3)
    np.testing.assert_allclose((csi / scale)[~few], (expected / scale)[~few], atol=0.02)  # without the weakest paths


def test_the_truth_of_a_ray_traced_link_is_its_first_path(copies: Path) -> None:
    links = load_links(["etoile:900"], 2, copies)
    for station in range(2):
        paths = PathTable.load(table_path(copies, "etoile", 900, station))
        first = first_paths(paths)
        reached = paths.reached
        _, _, truth = observe(links, station)
        assert links.reached[:, station].tolist() == reached.tolist()
        np.testing.assert_allclose(truth.range[reached], first.range[reached], atol=1e-3)
        np.testing.assert_allclose(truth.aoa[reached], first.off_broadside(paths.site.yaw)[reached], atol=1e-5)
        np.testing.assert_array_equal(truth.line_of_sight, first.line_of_sight)


def test_in_line_of_sight_the_truth_is_geometry(links: Links, streets: Path) -> None:
    stations = [PathTable.load(table_path(streets, "etoile", 0, one)).site for one in range(3)]
    origin = np.array(stations[0].bs)
    for number, site in enumerate(stations):
        _, configuration, truth = observe(links, number)
        east, north = (links.user.double().numpy() + origin[:2] - np.array(site.bs)[:2]).T
        seen = truth.line_of_sight.numpy()
        assert 5 < seen.sum() < links.users
        height = site.bs[2] - 1.5
        np.testing.assert_allclose(configuration[:, 1], height, atol=1e-4)
        np.testing.assert_allclose(truth.range[seen], np.sqrt(east**2 + north**2 + height**2)[seen], atol=1e-2)
        off = np.arctan2(north, east) - site.yaw
        np.testing.assert_allclose(truth.aoa[seen].sin(), np.sin(off)[seen], atol=1e-5)
        np.testing.assert_allclose(
            truth.position, np.column_stack([np.cos(off), np.sin(off)]) * np.hypot(east, north)[:, None], atol=1e-3
        )
        hidden = ~seen & links.reached[:, number].numpy()
        assert (truth.range.numpy()[hidden] > np.sqrt(east**2 + north**2 + height**2)[hidden] + 1).all()  # by the wall


def test_angles_behind_the_array_are_folded_into_its_front() -> None:
    degrees = torch.tensor([0.0, 80.0, 100.0, 180.0, -100.0, 190.0, 350.0, 720.0 - 45.0])
    folded = fold(degrees.deg2rad()).rad2deg()
    torch.testing.assert_close(
        folded, torch.tensor([0.0, 80.0, 80.0, 0.0, -80.0, -10.0, -10.0, -45.0]), atol=1e-2, rtol=0
    )


def test_turning_the_array_turns_truth_and_channel_together(links: Links) -> None:
    angle = 0.3
    turned = torch.full((links.users,), angle)
    csi, _, truth = observe(links, 0, turned)
    straight, _, before = observe(links, 0)
    itself, _, _ = observe(replace(links, yaw=links.yaw + angle), 0)
    torch.testing.assert_close(csi, itself)
    reached = links.reached[:, 0]
    assert ((csi - straight)[reached].abs().amax((1, 2)) > 0.1 * straight[reached].abs().amax((1, 2))).all()
    torch.testing.assert_close(truth.aoa, fold(before.aoa - angle), atol=1e-4, rtol=0)
    torch.testing.assert_close(truth.range, before.range)
    x, y = before.position.unbind(-1)
    cos, sin = math.cos(angle), math.sin(angle)
    torch.testing.assert_close(truth.position, torch.stack([cos * x + sin * y, cos * y - sin * x], dim=-1))


def test_one_path_arrives_from_the_angle_and_at_the_time_of_the_truth(links: Links) -> None:
    alone = replace(links, gain=links.gain.clone())
    alone.gain[..., 1:] = 0  # of users in sight, the strongest path is the direct one
    csi, configuration, truth = observe(alone, 0)
    seen = truth.line_of_sight
    down = configuration[:, 1] / truth.range
    cone = truth.aoa.sin() * (1 - down.square()).sqrt()
    step = (csi[:, 1:] * csi[:, :-1].conj())[seen].sum((1, 2)).angle()
    torch.testing.assert_close(step, (math.pi * cone)[seen], atol=1e-3, rtol=0)
    ramp = (csi[..., 1:] * csi[..., :-1].conj())[seen].sum((1, 2))
    expected = -2 * math.pi * truth.range[seen] / SPEED_OF_LIGHT * BANDWIDTH / S
    torch.testing.assert_close(
        (ramp * torch.exp(-1j * expected)).angle(), torch.zeros(int(seen.sum())), atol=1e-3, rtol=0
    )


def test_every_snapshot_has_a_bandwidth_of_its_own(links: Links) -> None:
    user, station = torch.arange(6), links.reached[:6].float().argmax(1)
    bandwidth = torch.tensor([10e6, 20e6, 50e6] * 2)
    together, configuration, _ = links.observe(user, station, A, S, bandwidth)
    assert configuration[:, 0].tolist() == bandwidth.tolist()
    for one in range(6):
        alone, _, _ = links.observe(user[one : one + 1], station[one : one + 1], A, S, bandwidth[one : one + 1])
        torch.testing.assert_close(together[one : one + 1], alone)


def test_only_users_that_some_station_reaches_are_links(links: Links, streets: Path) -> None:
    tables = [PathTable.load(table_path(streets, "etoile", 0, one)) for one in range(3)]
    reached = np.column_stack([paths.reached for paths in tables])
    assert not reached[0].any()
    assert reached[1].tolist() == [False, False, True]
    assert links.users == reached.any(1).sum()
    assert links.reached.tolist() == reached[reached.any(1)].tolist()
    np.testing.assert_allclose(links.user, tables[0].users[reached.any(1), :2])
    assert not links.gain[~links.reached].abs().any()


def test_streets_are_numbered_and_their_users_do_not_mix(streets: Path) -> None:
    both, second = load_links(["etoile:0-1"], 3, streets), load_links(["etoile:1"], 3, streets)
    assert both.street.unique().tolist() == [0, 1]
    rows = both.street == 1
    torch.testing.assert_close(both.user[rows], second.user)
    torch.testing.assert_close(both.delay[rows], second.delay)


def test_a_missing_station_is_named(streets: Path) -> None:
    with pytest.raises(FileNotFoundError, match="etoile-0000-3"):
        load_links(["etoile:0"], 4, streets)
