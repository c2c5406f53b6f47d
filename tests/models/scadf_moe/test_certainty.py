import numpy as np
import torch
from scipy.stats import multivariate_t

from models.scadf_moe.certainty import AS_GAUSSIAN, DEGREES_OF_FREEDOM, Certainty, Spread, surprise
from models.scadf_moe.certainty_training import train_certainty
from models.scadf_moe.recipe import CertaintyTraining


def test_the_surprise_is_that_of_a_student_t_distribution() -> None:
    spread = Spread(torch.tensor([[[0.4, 1.5]]]), torch.tensor([[-0.6]]))
    across = -0.6 * 0.4 * 1.5
    expected = multivariate_t(shape=[[0.4**2, across], [across, 1.5**2]], df=DEGREES_OF_FREEDOM)
    errors = torch.tensor([[[0.1, -0.3]], [[2.0, 1.0]], [[0.0, 0.0]]])
    density = -surprise(errors, spread)[:, 0].numpy()
    wanted = expected.logpdf(errors[:, 0].numpy())
    np.testing.assert_allclose(density - density[2], wanted - wanted[2], rtol=1e-5)


def test_covariances_have_the_spreads_axes_and_correlation() -> None:
    torch.manual_seed(1)
    certainty, embeddings = Certainty(8, hidden=4), torch.randn(5, 4, 8)
    sigma, correlation = certainty.spread(embeddings)
    covariances = certainty(embeddings) / AS_GAUSSIAN
    torch.testing.assert_close(covariances.diagonal(dim1=-2, dim2=-1).sqrt(), sigma)
    torch.testing.assert_close(covariances[..., 0, 1] / sigma.prod(-1), correlation)
    assert torch.linalg.eigvalsh(covariances).min() > 0


def test_covariances_stay_those_of_ellipses_for_any_embedding() -> None:
    torch.manual_seed(1)
    certainty = Certainty(8, hidden=4)
    with torch.no_grad():
        certainty.vertex[-1].weight.mul_(1e4)
    assert torch.linalg.eigvalsh(certainty(torch.randn(64, 4, 8)).double()).min() > 0


def test_training_finds_how_large_errors_are_and_where_they_point() -> None:
    """Vertices of one kind of embedding are off by 0.1 m north and 1 m east, those of the other by 1 m and 0.1 m."""
    generator = torch.Generator().manual_seed(2)
    kind = torch.randint(2, (4000, 3), generator=generator).float()
    embeddings = torch.cat([kind[..., None], 1 - kind[..., None], torch.zeros(4000, 3, 6)], dim=-1)
    sigma = torch.stack([1 - 0.9 * kind, 0.1 + 0.9 * kind], dim=-1)
    errors = sigma * torch.randn(sigma.shape, generator=generator)
    settings = CertaintyTraining(after=1, trajectories=1, hidden=8, steps=400, learning_rate=1e-2, weight_decay=0.0)
    certainty = train_certainty(settings, embeddings, errors, seed=1)
    found = certainty(embeddings[:, :2]).detach().diagonal(dim1=-2, dim2=-1).sqrt()
    assert (found[..., 0][kind[:, :2] == 0] > 3 * found[..., 1][kind[:, :2] == 0]).all()
    assert (found[..., 1][kind[:, :2] == 1] > 3 * found[..., 0][kind[:, :2] == 1]).all()
