import numpy as np

from reference_db import signal_feature
from reference_db.references import DELAY_WEIGHTS, choose_delay_weight
from tests.reference_db.street_users import Street


def test_synchronised_radios_get_a_large_delay_weight(street: Street) -> None:
    positions, csi = street(400)
    assert choose_delay_weight(signal_feature(csi), positions) >= 0.5


def test_radios_with_random_sampling_time_offsets_get_a_small_delay_weight(street: Street) -> None:
    positions, csi = street(400)
    offsets = np.random.default_rng(1).uniform(-1.5, 1.5, (400, 1, 1))
    shifted = (csi * np.exp(-1j * offsets * np.arange(16))).astype(np.complex64)
    assert choose_delay_weight(signal_feature(shifted), positions) <= 0.2


def test_a_single_fingerprint_gets_a_delay_weight_without_error(street: Street) -> None:
    positions, csi = street(1)
    assert choose_delay_weight(signal_feature(csi), positions) in DELAY_WEIGHTS


def test_the_delay_weight_of_a_large_cell_comes_from_a_sample(street: Street) -> None:
    positions, csi = street(400)
    features, places = np.tile(signal_feature(csi), (15, 1)), np.tile(positions, (15, 1))
    assert choose_delay_weight(features, places) in DELAY_WEIGHTS
