import math

import pytest
import torch
from torch import Tensor

from models.lwlm.anchors import find_anchors
from models.lwlm.decoders import Fused, covariance_of, fuse, invert, turn_into
from models.lwlm.decoding import Lwlm
from models.lwlm.network import normalise
from models.lwlm.recipe import LwlmRecipe
from reference_db.path_features import SPEED_OF_LIGHT


@pytest.fixture
def stations(generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Positions [3, 4, 2], covariances [3, 4, 2, 2] and attention [3, 4] of users near each other's guesses."""
    positions = torch.tensor([40.0, 20.0]) + 3 * torch.randn((3, 4, 2), generator=generator)
    covariances = covariance_of(*torch.randn((3, 12), generator=generator)).unflatten(0, (3, 4)) * 9
    return positions, covariances, torch.randn((3, 4), generator=generator)


def assert_same(one: Fused, other: Fused) -> None:
    for a, b in zip(one[:2], other[:2], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-3)


def test_untrained_anchored_decoders_answer_with_the_anchors(
    lwlm_recipe: LwlmRecipe, generator: torch.Generator
) -> None:
    model = Lwlm(lwlm_recipe).eval()
    csi = torch.randn((5, 8, 32, 2), generator=generator)
    configuration = torch.tensor([[20e6, 10.0]] * 3 + [[50e6, 20.0]] * 2)
    with torch.inference_mode():
        decoded, _ = model(csi, configuration)
        anchors = find_anchors(normalise(csi), configuration[:, 1], SPEED_OF_LIGHT / configuration[:, 0])
    torch.testing.assert_close(decoded.range, anchors.range)
    torch.testing.assert_close(decoded.aoa, anchors.aoa)
    torch.testing.assert_close(decoded.position, anchors.position)


def test_decoders_without_anchors_do_not_see_them(lwlm_recipe: LwlmRecipe, generator: torch.Generator) -> None:
    plain = lwlm_recipe.model_copy(update={"decoding": lwlm_recipe.decoding.model_copy(update={"anchored": False})})
    torch.manual_seed(0)
    model = Lwlm(plain).eval()
    csi = torch.randn((2, 8, 32, 2), generator=generator)
    narrow, wide = (model(csi, torch.tensor([[hertz, 10.0]] * 2))[0].position for hertz in (20e6, 21e6))
    assert (narrow - wide).norm(dim=-1).max() < 5  # an anchored position would move by the delay bin
    assert ((narrow - torch.tensor([50.0, 0.0])).norm(dim=-1) < 40).all()


@pytest.mark.parametrize("size", [0.1, 1.0, 3.0])
def test_every_predicted_covariance_is_positive_definite(size: float, generator: torch.Generator) -> None:
    covariance = covariance_of(*(size * torch.randn((3, 200), generator=generator))).double()
    torch.testing.assert_close(covariance, covariance.mT)
    assert (covariance.diagonal(dim1=-2, dim2=-1) > 0).all()
    first, off = covariance[:, 0, 0], covariance[:, 0, 1]
    assert (covariance[:, 1, 1] - off.square() / first > 0).all()


def test_the_inverse_is_the_inverse(stations: tuple[Tensor, Tensor, Tensor]) -> None:
    _, covariances, _ = stations
    torch.testing.assert_close(
        invert(covariances) @ covariances, torch.eye(2).expand_as(covariances), atol=1e-4, rtol=0
    )


@pytest.mark.parametrize("score", [-20.0, 0.0, 20.0])
def test_one_station_gives_its_own_answer(stations: tuple[Tensor, Tensor, Tensor], score: float) -> None:
    positions, covariances, _ = stations
    fused = fuse(positions[:, :1], covariances[:, :1], torch.full((3, 1), score))
    assert_same(fused, Fused(positions[:, 0], covariances[:, 0], torch.ones(3, 1)))
    torch.testing.assert_close(fused.weights, torch.ones(3, 1))


def test_equal_stations_average_and_share_the_weight() -> None:
    positions = torch.tensor([[[10.0, 0.0], [10.4, 0.2], [9.6, -0.2]]])
    fused = fuse(positions, 4 * torch.eye(2).expand(1, 3, 2, 2), torch.zeros(1, 3))
    torch.testing.assert_close(fused.position, torch.tensor([[10.0, 0.0]]), atol=1e-4, rtol=0)
    torch.testing.assert_close(fused.weights, torch.full((1, 3), 1 / 3), atol=0.01, rtol=0)
    torch.testing.assert_close(fused.covariance, 4 / 3 * torch.eye(2)[None], atol=0.05, rtol=0)


def test_a_higher_score_and_a_smaller_spread_count_more() -> None:
    positions = torch.tensor([[[0.0, 0.0], [1.0, 0.0]]])
    same = torch.eye(2).expand(1, 2, 2, 2).contiguous()
    assert fuse(positions, same, torch.tensor([[1.0, 0.0]])).weights[0, 0] > 0.6
    surer = same.clone()
    surer[0, 1] *= 0.25
    assert fuse(positions, surer, torch.zeros(1, 2)).weights[0, 1] > 0.6


def test_each_station_gives_the_direction_that_it_knows() -> None:
    positions = torch.tensor([[[10.0, 3.0], [13.0, 0.0]]])
    covariances = torch.stack([torch.diag(torch.tensor([0.01, 25.0])), torch.diag(torch.tensor([25.0, 0.01]))])[None]
    fused = fuse(positions, covariances, torch.zeros(1, 2))
    torch.testing.assert_close(fused.position, torch.tensor([[10.0, 0.0]]), atol=0.05, rtol=0)


def test_an_absent_station_is_as_if_left_out(stations: tuple[Tensor, Tensor, Tensor]) -> None:
    positions, covariances, attention = stations
    kept = [0, 1, 3]
    absent = attention.clone()
    absent[:, 2] = -torch.inf
    fused, without = (
        fuse(positions, covariances, absent),
        fuse(positions[:, kept], covariances[:, kept], attention[:, kept]),
    )
    assert_same(fused, without)
    torch.testing.assert_close(fused.weights[:, kept], without.weights, atol=1e-4, rtol=1e-3)
    assert not fused.weights[:, 2].any()
    elsewhere = positions.clone()
    elsewhere[:, 2] += 1000.0
    assert_same(fuse(elsewhere, covariances, absent), fused)


@pytest.mark.parametrize("outlier", range(4))
def test_a_sure_station_far_off_is_outvoted_by_three(outlier: int) -> None:
    positions = torch.tensor([[[20.0, 30.0], [21.0, 29.5], [19.5, 30.5], [20.3, 29.0]]])
    mean = positions[0, [one for one in range(4) if one != outlier]].mean(0)
    covariances = 9 * torch.eye(2).repeat(1, 4, 1, 1)
    positions[0, outlier] = torch.tensor([80.0, -10.0])
    covariances[0, outlier] /= 9
    fused = fuse(positions, covariances, torch.zeros(1, 4))
    assert (fused.position[0] - mean).norm() < 1.0
    assert fused.weights[0, outlier] < 0.05


def test_turning_and_shifting_all_stations_turns_and_shifts_the_answer(
    stations: tuple[Tensor, Tensor, Tensor],
) -> None:
    positions, covariances, attention = stations
    fused = fuse(positions, covariances, attention)
    yaw, station = torch.tensor([0.7, -2.0, 3.0]), torch.tensor([[5.0, -30.0], [100.0, 2.0], [0.0, 0.0]])
    moved = turn_into(positions, covariances, yaw[:, None].expand(3, 4), station[:, None].expand(3, 4, 2))
    expected = turn_into(fused.position, fused.covariance, yaw, station)
    answer = fuse(*moved, attention)
    assert_same(answer, Fused(*expected, fused.weights))
    torch.testing.assert_close(answer.weights, fused.weights, atol=1e-3, rtol=1e-3)


def test_the_order_of_the_stations_does_not_matter(stations: tuple[Tensor, Tensor, Tensor]) -> None:
    order = [2, 0, 3, 1]
    assert_same(fuse(*(one[:, order] for one in stations)), fuse(*stations))


def test_weights_add_up_to_one(stations: tuple[Tensor, Tensor, Tensor]) -> None:
    positions, covariances, attention = stations
    attention[0, 1:] = -torch.inf
    weights = fuse(positions, covariances, attention).weights
    torch.testing.assert_close(weights.sum(1), torch.ones(3), atol=1e-4, rtol=0)
    assert (weights >= 0).all()


def test_an_answer_turns_by_the_arrays_yaw_and_moves_to_its_place() -> None:
    yaw = math.radians(30)
    position, covariance = turn_into(
        torch.tensor([[10.0, 2.0]]),
        torch.diag(torch.tensor([4.0, 1.0]))[None],
        torch.tensor([yaw]),
        torch.tensor([[100.0, -50.0]]),
    )
    east = 100 + 10 * math.cos(yaw) - 2 * math.sin(yaw)
    north = -50 + 10 * math.sin(yaw) + 2 * math.cos(yaw)
    torch.testing.assert_close(position, torch.tensor([[east, north]]))
    cos, sin = math.cos(yaw), math.sin(yaw)
    expected = [[4 * cos**2 + sin**2, 3 * cos * sin], [3 * cos * sin, 4 * sin**2 + cos**2]]
    torch.testing.assert_close(covariance, torch.tensor([expected]))
