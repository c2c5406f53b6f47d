from dataclasses import replace

import pytest
import torch
from torch import Tensor

from models.scadf_moe.fusion_rivals import FUSIONS
from models.scadf_moe.network import ScadfMoE
from models.scadf_moe.readout import own_tokens
from models.scadf_moe.trajectory_tokens import Readout, ScadfMoEConfig

TINY = ScadfMoEConfig(
    antennas=4, subcarriers=16, vertices=3, tokens=2, width=16, heads=2, blocks=1, experts=3, slots=2, hidden=24
)
RIVALS = [name for name in FUSIONS if name != "scadf-moe"]


@pytest.fixture
def trajectories() -> tuple[Tensor, Tensor]:
    """csi [6, 3, 4, 16, 2], path features [6, 3, 4]"""
    generator = torch.Generator().manual_seed(1)
    csi = torch.randn((6, 3, 4, 16, 2), generator=generator)
    angles = 3 * torch.randn((6, 3, 2), generator=generator)
    distance = 30 + 60 * torch.rand((6, 3, 1), generator=generator)
    return csi, torch.cat([angles, distance, torch.full((6, 3, 1), 1e-9)], dim=-1)


def build_model(name: str, readout: Readout) -> torch.nn.Module:
    torch.manual_seed(2)
    return FUSIONS[name](replace(TINY, readout=readout)).eval()


def test_a_vertex_pools_its_own_tokens_and_the_centroid_pools_all() -> None:
    own = own_tokens(TINY, modalities=2)
    torch.testing.assert_close(own.sum(1), torch.ones(4))
    tokens_of = [{0, 1, 6, 7}, {2, 3, 8, 9}, {4, 5, 10, 11}, set(range(12))]
    assert [set(row.nonzero()[:, 0].tolist()) for row in own] == tokens_of


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_with_one_pooled_vector_answers_one_position_for_all_tasks(trajectories, name: str) -> None:
    positions = build_model(name, "pooled")(*trajectories)
    assert positions.shape == (6, 4, 2)
    torch.testing.assert_close(positions, positions[:, :1].expand(6, 4, 2))
    assert torch.pdist(positions[:, 0]).min() > 1e-4  # another one for each trajectory


@pytest.mark.parametrize("name", RIVALS)
def test_that_position_is_the_one_of_a_centroid_which_pools_all_tokens(trajectories, name: str) -> None:
    own, pooled = (build_model(name, readout)(*trajectories) for readout in ("own", "pooled"))
    torch.testing.assert_close(pooled[:, -1], own[:, -1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", RIVALS)
def test_a_rival_with_numbers_finds_a_position_for_each_task_in_one_vector(trajectories, name: str) -> None:
    model = build_model(name, "numbers")
    vectors = model.fusion(model.tokens(*trajectories))
    assert vectors.shape[:2] == (6, 1)
    numbers = model.head.linear(model.head.norm(vectors))[:, 0]  # [6, 8]
    torch.testing.assert_close(model(*trajectories), numbers.unflatten(1, (4, 2)))


@pytest.mark.parametrize("name", RIVALS)
@pytest.mark.parametrize("readout", ["pooled", "numbers"])
def test_one_vector_of_a_static_fusion_does_not_depend_on_the_order_of_the_vertices(
    trajectories, name: str, readout: Readout
) -> None:
    model, (csi, features) = build_model(name, readout), trajectories
    moved = (model(csi.flip(1), features.flip(1)) - model(csi, features)).abs().max()
    assert (moved < 1e-4) == (name in ("concat", "full-con"))


@pytest.mark.parametrize("readout", ["own", "pooled"])
def test_only_routers_and_task_embeddings_tell_the_vertices_of_a_pooled_scadf_moe_apart(
    trajectories, readout: Readout
) -> None:
    model = build_model("scadf-moe", readout)
    assert isinstance(model, ScadfMoE)
    assert torch.pdist(model(*trajectories)[0]).min() > 1e-4
    with torch.no_grad():
        for weights in (model.tasks.routers.Phi, model.tasks.task):
            weights.copy_(weights[:1].expand_as(weights))
    spread = torch.pdist(model(*trajectories)[0]).max()
    assert (spread < 1e-5) == (readout == "pooled")
