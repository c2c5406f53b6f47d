import numpy as np

from reference_db import signal_feature
from reference_db.timing_trust import TRUSTS, measure_timing_trust
from tests.reference_db.street_users import Street


def test_delays_of_radios_with_one_clock_are_trusted(street: Street) -> None:
    positions, csi = street(400)
    assert measure_timing_trust(signal_feature(csi), positions) >= 0.5


def test_delays_of_radios_without_a_common_clock_are_not(street: Street) -> None:
    positions, csi = street(400)
    late = np.random.default_rng(1).uniform(-1.5, 1.5, (400, 1, 1))
    shifted = (csi * np.exp(-1j * late * np.arange(16))).astype(np.complex64)
    assert measure_timing_trust(signal_feature(shifted), positions) <= 0.2


def test_a_single_fingerprint_says_nothing_and_that_is_no_error(street: Street) -> None:
    positions, csi = street(1)
    assert measure_timing_trust(signal_feature(csi), positions) in TRUSTS


def test_a_large_cell_is_sampled(street: Street) -> None:
    positions, csi = street(400)
    many = np.tile(signal_feature(csi), (15, 1))
    elsewhere = np.tile(positions, (15, 1))
    assert measure_timing_trust(many, elsewhere) in TRUSTS
