from dataclasses import replace
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

from models.pipeline.onnx_graph import OPSET, write_graph
from models.scadf_moe.certainty import CertainScadfMoE, Certainty
from models.scadf_moe.export import INPUTS, OUTPUTS
from models.scadf_moe.first_blocks import VertexBlocks
from models.scadf_moe.fusion_rivals import FUSIONS
from models.scadf_moe.network import ModalityTaskMoE, ScadfMoE
from models.scadf_moe.routing_diversity import routing_overlap
from models.scadf_moe.trajectory_tokens import ScadfMoEConfig

TINY = ScadfMoEConfig(
    antennas=4, subcarriers=16, vertices=3, tokens=2, width=16, heads=2, blocks=1, experts=3, slots=2, hidden=24
)


@pytest.fixture
def trajectories() -> tuple[Tensor, Tensor]:
    """csi [6, 3, 4, 16, 2], features [6, 3, 4]"""
    generator = torch.Generator().manual_seed(1)
    csi = 1e-5 * torch.randn((6, 3, 4, 16, 2), generator=generator)
    angles = 3 * torch.randn((6, 3, 2), generator=generator)
    distance = 30 + 60 * torch.rand((6, 3, 1), generator=generator)
    gain = 10 ** (-7 - 3 * torch.rand((6, 3, 1), generator=generator))
    return csi, torch.cat([angles, distance, gain], dim=-1)


@pytest.fixture
def model() -> ScadfMoE:
    torch.manual_seed(2)
    return ScadfMoE(TINY).eval()


@pytest.mark.parametrize("name", FUSIONS)
def test_every_model_answers_each_vertex_and_the_centroid(trajectories, name: str) -> None:
    torch.manual_seed(2)
    positions = FUSIONS[name](TINY)(*trajectories)
    assert positions.shape == (6, 4, 2)
    assert torch.pdist(positions[0]).min() > 1e-3  # four answers, not one for all


def test_each_task_routes_all_tokens_and_all_slots(model: ScadfMoE, trajectories) -> None:
    D, C = model.locate(*trajectories).routing
    tokens, slots = 2 * TINY.vertices * TINY.tokens, TINY.experts * TINY.slots
    assert D.shape == C.shape == (6, TINY.vertices + 1, tokens, slots)
    torch.testing.assert_close(D.sum(2), torch.ones(6, TINY.vertices + 1, slots))
    torch.testing.assert_close(C.sum(3), torch.ones(6, TINY.vertices + 1, tokens))


def test_the_task_moe_equals_a_loop_over_tasks_slots_and_tokens() -> None:
    torch.manual_seed(3)
    moe = ModalityTaskMoE(TINY)
    torch.nn.init.normal_(moe.task)
    X = torch.randn(2, 2 * TINY.vertices * TINY.tokens, TINY.width)
    Y = moe(X).tokens
    attended = moe.attention(X)
    normal = moe.norm(attended)
    experts = moe.experts
    for task in range(TINY.vertices + 1):
        logits = normal[0] @ moe.routers.Phi[task]  # [t, s]
        outputs = []
        for slot in range(logits.shape[1]):
            heard = sum(w * token for w, token in zip(logits[:, slot].softmax(0), normal[0], strict=True))
            e = slot // TINY.slots
            inside = torch.nn.functional.gelu((heard + moe.task[task]) @ experts.W_in[e] + experts.b_in[e])
            outputs.append((inside @ experts.W_out[e] + experts.b_out[e])[0])
        for token in range(logits.shape[0]):
            mixed = sum(w * out for w, out in zip(logits[token].softmax(0), outputs, strict=True))
            torch.testing.assert_close(Y[0, task, token], attended[0, token] + mixed, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["trans-fusion", "soft-moe", "scadf-moe"])
def test_by_vertex_only_the_last_block_reads_other_snapshots(trajectories, name: str) -> None:
    torch.manual_seed(2)
    model = FUSIONS[name](replace(TINY, by_vertex=True, blocks=2)).eval()
    (first,) = (module for module in model.modules() if isinstance(module, VertexBlocks))
    csi, features = trajectories
    other_csi, other_features = csi.clone(), features.clone()
    other_csi[:, 1], other_features[:, 1] = csi[:, 2], features[:, 2]
    before, after = (first(model.tokens(*given)) for given in ((csi, features), (other_csi, other_features)))
    changed = (before - after).abs().amax((0, 2)).unflatten(0, (2, TINY.vertices, TINY.tokens)) > 1e-4
    assert changed[:, 1].all()
    assert not changed[:, [0, 2]].any()
    moved = (model(csi, features) - model(other_csi, other_features)).abs().amax((0, 2))
    assert (moved[[0, 2]] > 1e-6).all()


@pytest.mark.parametrize("name", ["concat", "full-con"])
def test_a_static_rival_sees_one_vertex_at_a_time(trajectories, name: str) -> None:
    torch.manual_seed(2)
    model, (csi, features) = FUSIONS[name](TINY), trajectories
    before = model(csi, features)
    after = model(torch.cat([csi[:, :2], csi[:, 2:].flip(3)], dim=1), features)
    torch.testing.assert_close(after[:, :2], before[:, :2])
    assert (after[:, 2:] - before[:, 2:]).abs().amax((0, 2)).min() > 1e-4


@pytest.mark.parametrize("name", ["trans-fusion", "soft-moe", "scadf-moe"])
def test_an_adaptive_fusion_uses_the_whole_trajectory(trajectories, name: str) -> None:
    torch.manual_seed(2)
    model, (csi, features) = FUSIONS[name](TINY), trajectories
    moved = features.clone()
    moved[:, 2, 2] += 20.0
    assert (model(csi, moved) - model(csi, features)).abs().amax((0, 2)).min() > 1e-4


@pytest.mark.parametrize("name", FUSIONS)
def test_a_snapshots_gain_and_a_full_turn_of_an_angle_change_nothing(trajectories, name: str) -> None:
    torch.manual_seed(2)
    model, (csi, features) = FUSIONS[name](TINY), trajectories
    gain = 10 ** torch.linspace(-2, 2, 3)[:, None, None, None]
    turned = features + torch.tensor([2 * torch.pi, -2 * torch.pi, 0, 0])
    torch.testing.assert_close(model(gain * csi, turned), model(csi, features), rtol=0, atol=1e-4)


def test_the_centre_and_spread_of_the_training_points_shift_and_scale_the_answer(model: ScadfMoE, trajectories) -> None:
    before = model(*trajectories)
    model.head.centre.copy_(torch.tensor([40.0, -10.0]))
    model.head.spread.fill_(15.0)
    torch.testing.assert_close(model(*trajectories), 15 * before + torch.tensor([40.0, -10.0]), rtol=1e-5, atol=1e-4)


def test_gradient_reaches_every_router_and_every_expert(model: ScadfMoE, trajectories) -> None:
    model(*trajectories).square().sum().backward()
    for task in range(TINY.vertices + 1):
        assert model.tasks.routers.Phi.grad[task].abs().sum() > 0
        assert model.tasks.task.grad[task].abs().sum() > 0
    assert (model.tasks.experts.W_in.grad.abs().sum((1, 2)) > 0).all()
    silent = [name for name, weights in model.named_parameters() if weights.grad is None]
    assert not silent


def overlap(model: ScadfMoE, trajectories: tuple[Tensor, Tensor]) -> float:
    return float(routing_overlap(model.locate(*trajectories).routing, "written").detach())


def test_training_moves_the_routers_of_the_tasks_apart(trajectories) -> None:
    """From routers that are all the same, by the positions alone."""
    torch.manual_seed(4)
    model = ScadfMoE(TINY)
    with torch.no_grad():
        model.tasks.routers.Phi.copy_(model.tasks.routers.Phi[:1].expand_as(model.tasks.routers.Phi))
    assert overlap(model, trajectories) == pytest.approx(0, abs=1e-5)
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    vertices = 2 * torch.randn((6, 3, 2), generator=torch.Generator().manual_seed(5))
    truth = torch.cat([vertices, vertices.mean(1, keepdim=True)], dim=1)
    losses = []
    for _ in range(60):
        loss = (model(*trajectories) - truth).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert overlap(model, trajectories) < -1e-4


def test_static_routers_are_the_same_for_every_sample(trajectories) -> None:
    torch.manual_seed(2)
    model = ScadfMoE(ScadfMoEConfig(**{**TINY.__dict__, "static": True}))
    D, C = model.locate(*trajectories).routing
    torch.testing.assert_close(D, D[:1].expand_as(D))
    torch.testing.assert_close(C, C[:1].expand_as(C))
    assert not torch.equal(D[:, 0], D[:, 1])
    adaptive, _ = ScadfMoE(TINY).locate(*trajectories).routing
    assert not torch.equal(adaptive[0], adaptive[1])


@pytest.mark.parametrize("name", ["trans-fusion", "soft-moe", "scadf-moe"])
def test_the_residual_init_scales_the_last_layer_of_every_residual_branch_and_nothing_else(name: str) -> None:
    models = []
    for scale in (0.1, 1.0):
        torch.manual_seed(2)
        models.append(FUSIONS[name](replace(TINY, residual_init=scale)).state_dict())
    small, full = models
    scaled = {key for key in full if not torch.equal(small[key], full[key])}
    last = {key for key in full if key.endswith(("O.weight", "mlp.3.weight", "experts.W_out"))}
    assert scaled == last
    assert len(last) == 2 * (TINY.blocks + 1)  # attention, and MLP or experts
    for key in last:
        torch.testing.assert_close(10 * small[key], full[key])


def test_a_model_with_a_single_point_and_a_single_expert_works(trajectories) -> None:
    csi, features = trajectories
    alone = ScadfMoE(ScadfMoEConfig(**{**TINY.__dict__, "vertices": 1, "experts": 1}))
    assert alone(csi[:, :1], features[:, :1]).shape == (6, 2, 2)


@pytest.mark.parametrize("by_vertex", [False, True])
def test_the_onnx_graph_equals_torch_for_any_number_of_trajectories(
    trajectories, tmp_path: Path, by_vertex: bool
) -> None:
    torch.manual_seed(2)
    model = ScadfMoE(replace(TINY, by_vertex=by_vertex)).eval()
    path, free = tmp_path / "full.onnx", INPUTS
    certain = CertainScadfMoE(model, Certainty(TINY.width, hidden=8))
    write_graph(certain, trajectories, free, OUTPUTS, path)
    assert [path.name for path in tmp_path.iterdir()] == ["full.onnx"]  # no other file
    assert onnx.load(path).opset_import[0].version == OPSET
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch in (1, 6):
        csi, features = (tensor[:batch] for tensor in trajectories)
        answers = session.run(OUTPUTS, {"csi": csi.numpy(), "path_features": features.numpy()})
        for answer, expected in zip(answers, certain(csi, features), strict=True):
            torch.testing.assert_close(torch.from_numpy(answer), expected.detach(), rtol=0, atol=1e-4)
