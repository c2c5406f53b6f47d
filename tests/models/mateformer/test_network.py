import math
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor, nn

from models.artifact.channel_transform import DESCRIPTION
from models.layers.channel_features import ABSOLUTE, ELEVATION, FEATURES, LEVELS, RELATIVE, SPECTRA
from models.mateformer.learner import negative_log_likelihood
from models.mateformer.network import (
    AS_GAUSSIAN,
    DEGREES_OF_FREEDOM,
    SIMILAR_WITHIN,
    Coarse,
    Estimates,
    Mateformer,
    MateformerConfig,
    invert,
    log_likelihood,
    mean_levels,
    measure_spread,
)

SMALL = {"width": 32, "depth": 3, "hidden": 48, "heads": 4}
Scene = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]  # the arguments of `Mateformer.forward`


@pytest.fixture(autouse=True)
def no_gradients() -> Iterator[None]:
    torch.set_grad_enabled(False)
    yield
    torch.set_grad_enabled(True)


def make_model(**config: bool) -> Mateformer:
    """A model in which coarse positions have an effect and precisions differ, as after training."""
    torch.manual_seed(3)
    model = Mateformer(MateformerConfig(**SMALL, **config)).eval()
    for name, parameter in model.named_parameters():
        if "belief" in name or "coarse" in name:
            nn.init.normal_(parameter, mean=0.5, std=0.2)
    return model


@pytest.fixture
def model() -> Mateformer:
    return make_model()


@pytest.fixture
def scene() -> Scene:
    """Two neighbourhoods of 12 known samples and 5 users. The last user has no coarse position."""
    generator = torch.Generator().manual_seed(4)
    shapes = (2, 12, FEATURES), (2, 12, 2), (2, 12), (2, 5, FEATURES), (2, 5, 2)
    known, positions, sigmas, features, coarse = (torch.randn(shape, generator=generator) for shape in shapes)
    middle = torch.tensor([40.0, -25.0])
    accuracy = torch.tensor([0.5, 1.0, 2.0, 5.0, math.inf]).expand(2, 5)
    return known, 3 * positions + middle, 0.1 * sigmas.abs(), features, 2 * coarse + middle, accuracy


def locate(model: Mateformer, *scene: Tensor) -> Tensor:
    """Positions and, in metres too, the square roots of the covariances' diagonals, [b, q, 4]."""
    estimates = model(*scene)
    return torch.cat([estimates.position, estimates.covariance.diagonal(dim1=-2, dim2=-1).sqrt()], dim=-1)


def change(scene: Scene, **changes: Tensor) -> Scene:
    names = "known", "positions", "sigmas", "features", "coarse", "accuracy"
    return tuple(changes.get(name, value) for name, value in zip(names, scene, strict=True))


def test_a_user_to_infer_does_not_influence_others(model, scene) -> None:
    before = locate(model, *scene)
    disturbed = scene[3].clone()
    disturbed[:, 2] = 7 * torch.randn_like(disturbed[:, 2])
    after = locate(model, *change(scene, features=disturbed))
    others = [0, 1, 3, 4]
    torch.testing.assert_close(after[:, others], before[:, others], rtol=0, atol=1e-5)
    assert (after[:, 2] - before[:, 2]).norm(dim=-1).min() > 1e-3


def test_every_known_sample_influences_the_answer(model, scene) -> None:
    before = locate(model, *scene)
    for sample in range(scene[0].shape[1]):
        moved, other, unsure = scene[1].clone(), scene[0].clone(), scene[2].clone()
        moved[:, sample] += 1.0
        other[:, sample] = other[:, sample].flip(1)
        unsure[:, sample] += 1.0
        assert (locate(model, *change(scene, positions=moved)) - before).abs().max() > 1e-3
        assert (locate(model, *change(scene, known=other)) - before).abs().max() > 1e-5
        assert (locate(model, *change(scene, sigmas=unsure)) - before).abs().max() > 1e-5


def test_permuting_the_neighbourhood_changes_nothing(model, scene) -> None:
    order = torch.randperm(12, generator=torch.Generator().manual_seed(1))
    known, positions, sigmas = (part[:, order] for part in scene[:3])
    permuted = change(scene, known=known, positions=positions, sigmas=sigmas)
    torch.testing.assert_close(locate(model, *permuted), locate(model, *scene), rtol=0, atol=1e-4)


def test_shifting_all_positions_shifts_the_answer(model, scene) -> None:
    shift = torch.tensor([300.0, -120.0])
    shifted = change(scene, positions=scene[1] + shift, coarse=scene[4] + shift)
    expected = locate(model, *scene)
    expected[..., :2] += shift
    torch.testing.assert_close(locate(model, *shifted), expected, rtol=0, atol=1e-3)


def test_scaling_all_lengths_scales_the_answer(model, scene) -> None:
    """Once the model does not look at the size of the neighbourhood."""
    model.embed_H.weight[:, SPECTRA + LEVELS] = 0
    known, positions, sigmas, features, coarse, accuracy = scene
    longer = [channels.clone() for channels in (known, features)]
    for channels in longer:
        channels[..., SPECTRA + 1] *= 10  # the delay is in metres, too
    scaled = locate(model, longer[0], 10 * positions, 10 * sigmas, longer[1], 10 * coarse, 10 * accuracy)
    torch.testing.assert_close(scaled, 10 * locate(model, *scene), rtol=1e-3, atol=2e-3)


def test_the_size_of_the_neighbourhood_is_seen(model, scene) -> None:
    known, positions, sigmas, features, coarse, accuracy = scene
    larger = locate(model, known, 10 * positions, 10 * sigmas, features, 10 * coarse, 10 * accuracy)
    assert (larger / 10 - locate(model, *scene)).abs().max() > 1e-3


def test_the_spread_is_the_rms_distance_from_the_centre(scene) -> None:
    centre, spread = measure_spread(scene[1])
    torch.testing.assert_close(centre, scene[1].mean(1))
    expected = (scene[1] - centre[:, None]).norm(dim=-1).square().mean(1).sqrt()
    torch.testing.assert_close(spread, expected)
    torch.testing.assert_close(measure_spread(10 * scene[1])[1], 10 * spread)
    assert float(measure_spread(scene[1][:, :1])[1].min()) > 0  # a single fingerprint has no spread


def test_levels_count_relative_to_the_known_samples(model, scene) -> None:
    """The same gain or delay on every snapshot of the cell changes nothing: no level is a place."""
    lifted = [scene[0].clone(), scene[3].clone()]
    for features in lifted:
        features[..., SPECTRA] += 3.0
        features[..., SPECTRA + 1] -= 20.0
    torch.testing.assert_close(mean_levels(lifted[0]), mean_levels(scene[0]) + torch.tensor([3.0, -20.0]))
    after = locate(model, *change(scene, known=lifted[0], features=lifted[1]))
    torch.testing.assert_close(after, locate(model, *scene), rtol=0, atol=1e-3)
    after = locate(model, *change(scene, features=lifted[1]))
    assert (after - locate(model, *scene)).abs().max() > 1e-3


def test_frame_and_query_equal_the_single_pass(model, scene) -> None:
    known, positions, sigmas, features, coarse, accuracy = scene
    halves = model.query(features, Coarse(coarse, accuracy), model.frame(known, positions, sigmas))
    whole = model(*scene)
    torch.testing.assert_close(halves.position, whole.position, rtol=0, atol=1e-4)
    torch.testing.assert_close(halves.covariance, whole.covariance, rtol=1e-3, atol=1e-4)


def test_a_frame_has_keys_and_values_of_both_attentions_in_every_layer(model, scene) -> None:
    frame = model.frame(*scene[:3])
    assert len(frame.keys_values) == SMALL["depth"]
    for K, V in frame.keys_values:
        assert K.shape == V.shape == (2, 2 * SMALL["heads"], 12, 8)
    torch.testing.assert_close(frame.centre, scene[1].mean(1))
    torch.testing.assert_close(frame.spread, measure_spread(scene[1])[1])
    torch.testing.assert_close(frame.reference, mean_levels(scene[0]))


def test_only_users_with_a_coarse_position_are_moved_by_it(model, scene) -> None:
    known, positions, sigmas, features, coarse, accuracy = scene
    moved = locate(model, *change(scene, coarse=coarse + 3.0)) - locate(model, *scene)
    assert moved[:, :-1].norm(dim=-1).min() > 1e-3
    assert moved[:, -1].abs().max() == 0
    frame = model.frame(known, positions, sigmas)
    nobody = model.query(features, Coarse(torch.zeros_like(coarse), torch.full_like(accuracy, math.inf)), frame)
    some = model.query(features, Coarse(coarse, accuracy), frame)
    torch.testing.assert_close(nobody.position[:, -1], some.position[:, -1], rtol=0, atol=0)
    torch.testing.assert_close(nobody.covariance[:, -1], some.covariance[:, -1], rtol=0, atol=0)


def test_a_coarse_position_without_any_error_is_the_answer(model, scene) -> None:
    known, positions, sigmas, features, coarse, accuracy = scene
    exact = Coarse(coarse, torch.zeros_like(accuracy))
    found = model.query(features, exact, model.frame(known, positions, sigmas))
    torch.testing.assert_close(found.position, coarse, rtol=0, atol=0.05)
    assert found.covariance.isfinite().all()


def test_the_prior_is_the_likelihood_of_each_known_position(scene) -> None:
    _, positions, _, _, coarse, accuracy = scene
    spread = measure_spread(positions)[1]
    prior = log_likelihood(Coarse(coarse, accuracy), positions, spread)
    for user, sample in ((0, 0), (1, 3), (2, 7)):
        off = float((coarse[0, user] - positions[0, sample]).norm())
        variance = (SIMILAR_WITHIN * float(spread[0])) ** 2 + float(accuracy[0, user]) ** 2
        assert float(prior[0, user, sample]) == pytest.approx(max(-(off**2) / 2 / variance, -8), rel=1e-4)
    assert prior[:, -1].abs().max() == 0


def test_the_paper_sized_model_has_the_papers_shape() -> None:
    model = Mateformer(MateformerConfig())
    config = model.config
    assert (len(model.layers), config.width, config.hidden, config.heads) == (8, 256, 256, 4)
    assert model.embed_H.in_features == FEATURES + 1
    assert FEATURES == SPECTRA + LEVELS + DESCRIPTION
    assert model.output[-1].out_features == 2  # position
    assert model.certainty[-1].out_features == 4  # Cholesky factor, belief in the fix


@pytest.mark.parametrize(
    ("hidden", "first", "size"),
    [
        ("absolute", 0, ABSOLUTE),
        ("relative", ABSOLUTE, RELATIVE),
        ("elevation", ABSOLUTE + RELATIVE, ELEVATION),
    ],
)
def test_a_model_without_a_spectrum_does_not_see_it(scene, hidden: str, first: int, size: int) -> None:
    other = scene[3].clone()
    other[..., first : first + size] += 1
    changed = change(scene, features=other)
    blind, seeing = make_model(**{hidden: False}), make_model()
    torch.testing.assert_close(locate(blind, *changed), locate(blind, *scene), rtol=0, atol=0)
    assert (locate(seeing, *changed) - locate(seeing, *scene)).abs().max() > 1e-3
    assert blind.state_dict().keys() == seeing.state_dict().keys()


# The fix.


def put_out(model: Mateformer, *values: float) -> None:
    """Makes the model say for every user: offset, logarithms of the diagonal, below the diagonal, belief."""
    for last, part in (model.output[-1], values[:2]), (model.certainty[-1], values[2:]):
        last.weight.zero_()
        last.bias.copy_(torch.tensor(part))


BELIEVED = 30.0  # a sigmoid of one


@settings(max_examples=30)
@given(
    st.tuples(*[st.floats(-1.5, 1.5)] * 2, *[st.floats(-1, 3)] * 2, st.floats(-3, 3)),
    st.tuples(*[st.floats(-20, 20)] * 2),
    st.floats(0.2, 50),
)
def test_a_believed_fix_is_fused_by_a_kalman_update(
    own: tuple[float, ...], fix: tuple[float, float], sigma: float
) -> None:
    torch.set_grad_enabled(False)
    model = make_model()
    generator = torch.Generator().manual_seed(1)
    features, positions = (torch.randn(shape, generator=generator) for shape in ((1, 9, FEATURES), (1, 8, 2)))
    positions = 4 * positions

    def ask(coarse: tuple[float, float], accuracy: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Position, scale matrix of the Student-t distribution, covariance."""
        known = features[:, :8], positions, torch.zeros(1, 8)
        answer = model(*known, features[:, 8:], torch.tensor([[coarse]]), torch.tensor([[accuracy]]))
        a, c, d = answer.precision[0, 0].double().tolist()
        found = answer.position[0, 0].double().numpy(), answer.covariance[0, 0].double().numpy()
        return found[0], np.linalg.inv([[a, c], [c, d]]), found[1]

    put_out(model, *own, BELIEVED)
    mean, *own_spreads = ask((0.0, 0.0), math.inf)
    fused_mean, *fused_spreads = ask(fix, sigma)
    gain = own_spreads[0] @ np.linalg.inv(own_spreads[0] + sigma**2 * np.eye(2))
    np.testing.assert_allclose(fused_mean, mean + gain @ (fix - mean), rtol=2e-3, atol=2e-3)
    # The Gaussian error of the fix is fused with either spread of the model, and not widened.
    for own_spread, fused in zip(own_spreads, fused_spreads, strict=True):
        gain = own_spread @ np.linalg.inv(own_spread + sigma**2 * np.eye(2))
        np.testing.assert_allclose(fused, (np.eye(2) - gain) @ own_spread, rtol=5e-3, atol=1e-4 * sigma**2)

    put_out(model, *own, -BELIEVED)  # a fix that the model does not believe at all
    ignored_mean, _, ignored_covariance = ask(fix, sigma)
    np.testing.assert_allclose(ignored_mean, mean, atol=1e-3)
    np.testing.assert_allclose(ignored_covariance, own_spreads[1], rtol=1e-3, atol=1e-4)


def test_the_output_is_a_mean_and_a_cholesky_factor_in_spreads(model, scene) -> None:
    put_out(model, 0.3, -0.2, math.log(2.0), math.log(3.0), 0.5, 0.0)
    answer = model(*change(scene, accuracy=torch.full((2, 5), math.inf)))
    centre, spread = measure_spread(scene[1])
    torch.testing.assert_close(
        answer.position, (centre + spread[:, None] * torch.tensor([0.3, -0.2]))[:, None].expand(2, 5, 2)
    )
    factor = torch.tensor([[2.0, 0.0], [0.5, 3.0]]) / (0.2 * spread[:, None, None])
    expected = AS_GAUSSIAN * torch.linalg.inv(factor @ factor.mT)
    torch.testing.assert_close(answer.covariance, expected[:, None].expand(2, 5, 2, 2), rtol=1e-4, atol=1e-4)


def test_the_ellipse_of_the_covariance_covers_95_percent_of_student_t_errors() -> None:
    factor = np.array([[0.5, 0.0], [0.8, 2.0]])
    precision = factor @ factor.T
    errors = stats.multivariate_t.rvs(
        shape=np.linalg.inv(precision), df=DEGREES_OF_FREEDOM, size=200_000, random_state=np.random.default_rng(5)
    )
    a, c, d = (float(precision[index]) for index in ((0, 0), (0, 1), (1, 1)))
    covariance = AS_GAUSSIAN * invert(*(torch.tensor(part) for part in (a, c, d, a * d - c * c)))
    inverse = np.linalg.inv(covariance.double().numpy())
    squared = np.einsum("ni,ij,nj->n", errors, inverse, errors)
    assert (squared <= stats.chi2.ppf(0.95, 2)).mean() == pytest.approx(0.95, abs=2e-3)


def test_the_loss_is_the_likelihood_of_a_student_t_distribution() -> None:
    rng = np.random.default_rng(2)
    differences = []
    for _ in range(20):
        factor = np.tril(rng.normal(size=(2, 2)) * 2)
        precision, mean, truth = factor @ factor.T, rng.normal(size=2), rng.normal(size=2) * 5
        a, c, d = precision[0, 0], precision[0, 1], precision[1, 1]
        estimates = Estimates(
            *(torch.tensor(part)[None, None] for part in (mean, np.array([a, c, d]), np.linalg.det(precision))),
            covariance=torch.eye(2)[None, None],
            streams=torch.zeros(1, 1, 2),
        )
        ours = float(negative_log_likelihood(estimates, torch.tensor(truth)[None, None]))
        theirs = -stats.multivariate_t.logpdf(truth, mean, np.linalg.inv(precision), df=DEGREES_OF_FREEDOM)
        differences.append(ours - theirs)
    np.testing.assert_allclose(differences, differences[0], atol=1e-8)
    assert differences[0] == pytest.approx(-math.log(2 * math.pi), abs=1e-8)  # for any number of degrees of freedom
