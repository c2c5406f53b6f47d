import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from reference_db import BadFingerprint, Cell, Fingerprints, Origin, TooFewFingerprints, check_fingerprints
from reference_db.fingerprints import check_times


@pytest.fixture
def fingerprints(make_fingerprints: Callable[..., Fingerprints]) -> Fingerprints:
    return make_fingerprints()


def test_good_fingerprints_are_accepted(cell: Cell, fingerprints: Fingerprints) -> None:
    check_fingerprints(fingerprints, cell)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("csi", np.nan, "NaN"),
        ("csi", 1j * np.inf, "infinity"),
        ("csi", 0, "all zero"),
        ("csi", 1e-20, "amplitude"),
        ("csi", 1e20, "amplitude"),
        ("positions", np.nan, "position"),
        ("positions", np.inf, "position"),
        ("positions", 2e5, "100 km"),
        ("times", -1.0, "time"),
        ("times", np.nan, "time"),
        ("times", 1.7e12, "seconds"),
        ("sigmas", 0.0, "sigma"),
        ("sigmas", -0.1, "sigma"),
        ("sigmas", np.inf, "sigma"),
    ],
)
def test_a_bad_value_names_its_row(
    cell: Cell, fingerprints: Fingerprints, field: str, value: complex, reason: str
) -> None:
    getattr(fingerprints, field)[7] = value
    getattr(fingerprints, field)[9] = value
    with pytest.raises(BadFingerprint, match=re.escape(reason)) as caught:
        check_fingerprints(fingerprints, cell)
    assert caught.value.row == 7


def test_a_single_nan_in_a_snapshot_is_detected(cell: Cell, fingerprints: Fingerprints) -> None:
    fingerprints.csi[3, 2, 5] = complex(1e-6, np.nan)
    with pytest.raises(BadFingerprint, match="row 3: csi contains NaN"):
        check_fingerprints(fingerprints, cell)


def test_a_copy_names_the_row_it_copies(cell: Cell, fingerprints: Fingerprints) -> None:
    for name in ("csi", "positions", "times", "sigmas"):
        getattr(fingerprints, name)[8] = getattr(fingerprints, name)[2]
    with pytest.raises(BadFingerprint, match="row 8: duplicate of row 2"):
        check_fingerprints(fingerprints, cell)


def test_two_measurements_at_one_position_are_not_duplicates(cell: Cell, fingerprints: Fingerprints) -> None:
    fingerprints.positions[8] = fingerprints.positions[2]
    check_fingerprints(fingerprints, cell)


def test_csi_of_another_array_is_refused(cell: Cell, fingerprints: Fingerprints) -> None:
    with pytest.raises(BadFingerprint, match="3 antennas and 6 subcarriers"):
        check_fingerprints(replace(fingerprints, csi=fingerprints.csi[:, :3]), cell)


def test_no_fingerprint_at_all_is_refused(cell: Cell, make_fingerprints: Callable[..., Fingerprints]) -> None:
    with pytest.raises(TooFewFingerprints):
        check_fingerprints(make_fingerprints(0), cell)


def test_arrays_of_different_lengths_or_dtypes_are_refused(fingerprints: Fingerprints) -> None:
    with pytest.raises(ValueError, match="positions"):
        replace(fingerprints, positions=fingerprints.positions[1:])
    with pytest.raises(ValueError, match="times"):
        replace(fingerprints, times=fingerprints.times.astype(np.float32))
    with pytest.raises(ValueError, match="csi"):
        replace(fingerprints, csi=fingerprints.csi.astype(np.complex128))


@pytest.mark.parametrize("time", [61.0, 30 * 86400.0])
def test_a_time_in_the_future_is_refused(fingerprints: Fingerprints, origin: Origin, time: float) -> None:
    times = fingerprints.times[:3].copy()
    check_times(times, origin.now)
    times[1] = origin.now.timestamp() + time
    with pytest.raises(BadFingerprint, match="row 1: time is in the future"):
        check_times(times, origin.now)


@pytest.mark.parametrize("time", [1.0, 3e8, 946_684_800.0])
def test_a_time_of_a_clock_that_was_never_set_is_refused(
    fingerprints: Fingerprints, origin: Origin, time: float
) -> None:
    times = fingerprints.times[:3].copy()
    times[1:] = 0.0, time
    with pytest.raises(BadFingerprint, match="row 2: time is before 2010"):
        check_times(times, origin.now)
