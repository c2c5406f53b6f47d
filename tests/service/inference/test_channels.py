import numpy as np
import pytest

from reference_db import CellVersion, Fingerprints
from service.inference.channels import Channels
from tests.service.tiny_cell import positive_csi, tiny_cell, version_of


def version_with(survey_sto: float | None, user_sto: float | None) -> CellVersion:
    cell = tiny_cell().model_copy(update={"survey_sto": survey_sto, "user_sto": user_sto})
    positions = np.random.default_rng(0).uniform(0, 30, (20, 2)).astype(np.float32)
    fingerprints = Fingerprints(positive_csi(20), positions, np.zeros(20), np.full(20, 0.05, np.float32))
    return version_of(cell, fingerprints)


@pytest.mark.parametrize(
    ("survey_sto", "user_sto", "told"),
    [
        (5e-9, 5e-9, (5e-9, 5e-9)),
        (None, 5e-9, (None, 5e-9)),
        (9e-9, 5e-9, (9e-9, 5e-9)),
        (0.0, 5e-9, (5e-9, 5e-9)),  # the references are degraded alike
    ],
)
def test_the_model_is_told_the_timing_of_the_references_as_it_sees_them(
    survey_sto: float | None, user_sto: float | None, told: tuple[float | None, float | None]
) -> None:
    channel = Channels().of(version_with(survey_sto, user_sto))
    np.testing.assert_array_equal(channel.description, channel.with_sto(*told).description)
    other = channel.with_sto(1e-9, 1e-9).description
    assert not np.array_equal(channel.description, other)
