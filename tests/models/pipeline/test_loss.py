import pytest
import torch

from models.pipeline.loss import mean_distance, position_loss


def test_a_relative_loss_gives_every_sample_the_same_weight() -> None:
    estimates = torch.tensor([[[3.0, 4.0]] * 5, [[30.0, 40.0]] * 5], requires_grad=True)
    position_loss("relative", estimates, torch.zeros(2, 5, 2)).backward()
    near, far = (estimates.grad.flatten(1) * estimates.detach().flatten(1)).sum(1)
    assert float(near) == pytest.approx(float(far), rel=0.02)
    assert float(mean_distance(estimates.detach(), torch.zeros(2, 5, 2)).mean()) == pytest.approx(27.5)
