from io import BytesIO

import numpy as np
import pytest

from reference_db import signal_feature
from reference_db.references import DELAY_WEIGHTS, References, choose_delay_weight
from reference_db.tensor_buffer import read_tensors, write_tensors
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


@pytest.mark.parametrize("n", [60, 9000], ids=["flat", "lists"])
def test_references_made_of_arrays_find_what_the_original_finds(street: Street, n: int) -> None:
    positions, csi = street(n)
    references = References.of(positions[:-10], csi[:-10])
    with BytesIO() as file:
        write_tensors(file, references.arrays())
        arrays, _ = read_tensors(file.getvalue())
    rebuilt = References.of_arrays(positions[:-10], arrays)
    assert rebuilt.resident_bytes == references.resident_bytes
    assert rebuilt.knn_bandwidth == references.knn_bandwidth
    assert rebuilt.signals.delay_weight == references.signals.delay_weight
    asked = signal_feature(csi[:20])
    for one, other in (
        (rebuilt, references),
        (rebuilt.extended(positions[-10:], csi[-10:]), references.extended(positions[-10:], csi[-10:])),
    ):
        rows = np.arange(0, len(one), 7)
        allowed = np.ones((len(asked), len(rows)), bool)
        found, expected = (
            [
                *made.signals.nearest(asked, 40),
                *made.signals.nearest_of(rows, allowed, asked, 5),
                *made.index.nearest(positions[:20], 9),
            ]
            for made in (one, other)
        )
        for array, wanted in zip(found, expected, strict=True):
            np.testing.assert_array_equal(array, wanted)
