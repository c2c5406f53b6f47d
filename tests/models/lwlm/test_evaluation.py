import math

import numpy as np
import pytest
import torch

from models.lwlm.data import Truth
from models.lwlm.decoders import Decoded
from models.lwlm.evaluation import Measured, measure_links, measure_users, summarise
from models.lwlm.labels import Snapshots


@pytest.fixture
def answered() -> list[Measured]:
    """Two users and two stations that look east; the second station does not reach the second user."""
    drawn = Snapshots(
        csi=torch.zeros(2, 2, 8, 16, 2),
        configuration=torch.tensor([[[10e6, 10.0], [20e6, 10.0]], [[20e6, 10.0], [20e6, 10.0]]]),
        truth=Truth(
            range=torch.tensor([[50.0, 30.0], [80.0, 0.0]]),
            aoa=torch.tensor([[0.1, -0.2], [0.5, 0.0]]),
            line_of_sight=torch.tensor([[True, True], [False, False]]),
            position=torch.tensor([[[40.0, 30.0], [10.0, 0.0]], [[60.0, 0.0], [0.0, 0.0]]]),
        ),
        reached=torch.tensor([[True, True], [True, False]]),
        yaw=torch.zeros(2, 2),
        station=torch.tensor([[[0.0, 0.0], [30.0, 30.0]]] * 2),
        user=torch.tensor([[40.0, 30.0], [60.0, 0.0]]),
    )
    decoded = Decoded(
        range=torch.tensor([[51.0, 28.0], [77.0, 9.0]]),
        range_sigma=torch.ones(2, 2),
        aoa=torch.tensor([[0.1 + math.radians(2), -0.2 - math.radians(4)], [0.5 + math.radians(9), 3.0]]),
        aoa_sigma=torch.ones(2, 2),
        line_of_sight=torch.tensor([[2.0, -1.0], [-3.0, 5.0]]),
        position=torch.tensor([[[40.0, 34.0], [10.0, 2.0]], [[66.0, 8.0], [9.0, 9.0]]]),
        covariance=torch.tensor([4.0, 1.0, 1.0, 1.0]).reshape(2, 2, 1, 1) * torch.eye(2),
        attention=torch.zeros(2, 2),
    )
    return [Measured(drawn, decoded)]


def test_the_errors_of_links_are_those_computed_by_hand(answered: list[Measured]) -> None:
    links = measure_links(answered)
    np.testing.assert_allclose(links.range, [1, 2, 3], atol=1e-5)
    np.testing.assert_allclose(np.degrees(links.aoa), [2, 4, 9], atol=1e-4)
    np.testing.assert_allclose(links.position, [4, 2, 10], atol=1e-5)
    assert links.line_of_sight.tolist() == [True, True, False]
    assert links.sight_right.tolist() == [True, False, True]
    assert links.antennas.tolist() == [8, 8, 8]
    assert links.bandwidth.tolist() == [10e6, 20e6, 20e6]


def test_users_of_one_station_do_not_count_as_fused_and_the_surest_has_the_smallest_spread(
    answered: list[Measured],
) -> None:
    users = measure_users(answered)
    assert len(users.fused) == len(users.surest) == 1
    assert users.surest[0] == pytest.approx(2)  # of the second station
    assert 2 < users.fused[0] < 3  # between 4 and 2 m, of which the second counts more
    assert users.all_in_sight.tolist() == [True]


def test_the_summary_splits_by_sight_antennas_and_bandwidth(answered: list[Measured]) -> None:
    summary = summarise(measure_links(answered), measure_users(answered))
    assert summary["toa"] == {
        "all": 2.0, "los": 1.5, "nlos": 3.0, "8 antennas": 2.0, "10 MHz": 1.0, "20 MHz": 2.5, "median": 2.0
    }  # fmt: skip
    assert summary["aoa"]["all"] == pytest.approx(5, abs=1e-3)
    assert summary["single"]["nlos"] == 10.0
    assert summary["los"]["all"] == pytest.approx(2 / 3, abs=1e-4)
    assert "nlos" not in summary["multi"]
    assert summary["surest"]["los"] == 2.0


def test_the_order_and_number_of_groups_does_not_matter(answered: list[Measured]) -> None:
    (drawn, decoded) = answered[0]
    split = [
        Measured(drawn.take(rows), Decoded(*(values[rows] for values in decoded)))
        for rows in (torch.tensor([1]), torch.tensor([0]))
    ]
    one, other = (summarise(measure_links(each), measure_users(each)) for each in (answered, split))
    assert one == other
