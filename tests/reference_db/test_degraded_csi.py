"""Surveys that were better synchronised than the users: their references are degraded alike."""

from io import BytesIO
from typing import Any

import numpy as np
import pytest

from reference_db import AntennaArray, Cell, CellVersion, Fingerprints, Origin, append_fingerprints, replace_cell
from reference_db.degraded_csi import Degradation
from reference_db.exporting import export_fingerprints
from reference_db.fingerprint_file import FingerprintFile
from reference_db.index.signal_features import signal_feature
from reference_db.retrieval import first_guess
from tests.reference_db.street_users import USERS, Floats, Street, errors, no_fix

BANDWIDTH, SUBCARRIERS = 40e6, 16  # of the street
TWENTY_NS = 20e-9 / np.sqrt(3)  # 1 sigma of ±20 ns
N = 500


def make_cell(**fields: Any) -> Cell:
    return Cell(
        cell_id="street",
        latitude_deg=0,
        longitude_deg=0,
        height=10,
        yaw=0,
        array=AntennaArray(rows=1, columns=16),
        carrier_frequency=3.5e9,
        bandwidth=BANDWIDTH,
        subcarriers=SUBCARRIERS,
        **fields,
    )


CLOCKED = make_cell(survey_sto=0.0, user_sto=TWENTY_NS)


def survey(street: Street, n: int = N, seed: int = 0) -> Fingerprints:
    positions, csi = street(n, seed)
    return Fingerprints(csi, positions, np.zeros(n), np.full(n, 0.05, np.float32))


def version_of(cell: Cell, fingerprints: Fingerprints, origin: Origin) -> CellVersion:
    return CellVersion.assemble(replace_cell(None, cell, fingerprints, origin).contents)


def late(csi: np.ndarray[Any, Any], seed: int) -> np.ndarray[Any, Any]:
    """The same CSI of radios of ±20 ns, with a random phase."""
    random = np.random.default_rng(seed)
    offset = random.uniform(-20e-9, 20e-9, len(csi))
    cycles = random.random(len(csi))[:, None] - np.outer(offset, np.arange(SUBCARRIERS)) * BANDWIDTH / SUBCARRIERS
    return (csi * np.exp(2j * np.pi * cycles)[:, None, :]).astype(np.complex64)


def mean_error(version: CellVersion, users: tuple[Floats, np.ndarray[Any, Any]]) -> float:
    truth, csi = users
    return float(errors(first_guess(version.references, signal_feature(csi), *no_fix(len(truth))), truth).mean())


def test_late_users_of_a_clocked_survey_are_located_as_in_a_late_survey(street: Street, origin: Origin) -> None:
    clocked = survey(street)
    late_survey = Fingerprints(late(clocked.csi, 1), clocked.positions, clocked.times, clocked.sigmas)
    truth, csi = street(4 * USERS, seed=1)
    users = truth, late(csi, 2)
    alike = mean_error(version_of(CLOCKED, clocked, origin), users)
    symmetric = mean_error(version_of(make_cell(), late_survey, origin), users)
    as_measured = mean_error(version_of(make_cell(), clocked, origin), users)
    assert alike == pytest.approx(symmetric, rel=0.15)
    assert as_measured > 1.3 * alike


@pytest.mark.parametrize(
    ("survey_sto", "user_sto", "sto"),
    [
        (0.0, 3e-9, 3e-9),
        (3e-9, 5e-9, 4e-9),
        (5e-9, 5e-9, None),
        (5e-9, 0.0, None),
        (None, 5e-9, None),
        (0.0, None, None),
    ],
)
def test_fingerprints_get_what_they_lack(survey_sto: float | None, user_sto: float | None, sto: float | None) -> None:
    degradation = Degradation.of(make_cell(survey_sto=survey_sto, user_sto=user_sto))
    assert (None if degradation is None else degradation.sto) == (None if sto is None else pytest.approx(sto))


def test_offsets_have_the_stated_deviation_and_phases_are_uniform() -> None:
    degradation = Degradation.of(CLOCKED)
    assert degradation is not None
    ids = np.random.default_rng(0).integers(0, 2**64, 5000, np.uint64, endpoint=False)
    factors = degradation.factors(ids)
    np.testing.assert_allclose(np.abs(factors), 1, atol=1e-5)
    step = np.angle(factors[:, 1:] * factors[:, :-1].conj())[:, 0]  # radians from a subcarrier to the next
    offsets = -step / (2 * np.pi * BANDWIDTH / SUBCARRIERS)
    assert offsets.std() == pytest.approx(TWENTY_NS, rel=0.03)
    assert np.abs(offsets).max() == pytest.approx(20e-9, rel=0.01)
    assert np.abs(factors[:, SUBCARRIERS // 2].mean()) < 0.05


def test_neighbouring_ids_have_unrelated_offsets() -> None:
    degradation = Degradation.of(CLOCKED)
    assert degradation is not None
    factors = degradation.factors(np.arange(2000, dtype=np.uint64))
    offsets = np.angle(factors[:, 1] * factors[:, 0].conj())
    assert abs(np.corrcoef(offsets[1:], offsets[:-1])[0, 1]) < 0.1
    assert len(np.unique(offsets)) > 1900


def test_a_fingerprint_is_degraded_the_same_way_in_every_version(street: Street, origin: Origin) -> None:
    first = replace_cell(None, CLOCKED, survey(street, 40), origin)
    second = append_fingerprints(first.contents, survey(street, 9, seed=3), origin)
    before, after = CellVersion.assemble(first.contents), CellVersion.assemble(second.contents)
    rows = np.array([[3, 30], [7, 0]])
    np.testing.assert_array_equal(before.csi_of(rows), after.csi_of(rows))
    one_by_one = np.stack([after.csi_of(np.array([row]))[0] for row in rows.ravel()])
    np.testing.assert_array_equal(after.csi_of(rows).reshape(one_by_one.shape), one_by_one)
    again = CellVersion.assemble(second.contents, before)
    query = signal_feature(street(5, seed=4)[1]), *no_fix(5)
    np.testing.assert_array_equal(first_guess(after.references, *query), first_guess(again.references, *query))


def test_what_is_stored_and_exported_is_as_measured(street: Street, origin: Origin) -> None:
    measured = survey(street, 20)
    version = version_of(CLOCKED, measured, origin)
    np.testing.assert_array_equal(
        version.contents.fingerprints().csi, version_of(make_cell(), measured, origin).csi[np.arange(20)]
    )
    file = BytesIO()
    export_fingerprints(version.contents, file, "npz")
    exported = FingerprintFile.read(file)
    assert exported.cell is not None
    assert (exported.cell.survey_sto, exported.cell.user_sto) == (0.0, pytest.approx(TWENTY_NS))
    np.testing.assert_allclose(exported.fingerprints(CLOCKED).csi, measured.csi, rtol=2e-3, atol=1e-6)
    assert np.abs(version.csi[np.arange(20)] - measured.csi).max() > 0.1 * np.abs(measured.csi).max()


def test_a_cell_that_becomes_clocked_is_indexed_anew(street: Street, origin: Origin) -> None:
    fingerprints = survey(street, 40)
    plain, clocked = (replace_cell(None, cell, fingerprints, origin).contents for cell in (make_cell(), CLOCKED))
    before = CellVersion.assemble(plain)
    after = CellVersion.assemble(clocked, before)
    assert after.base is not before.base
    query = signal_feature(street(5, seed=4)[1]), *no_fix(5)
    fresh = first_guess(CellVersion.assemble(clocked).references, *query)
    np.testing.assert_array_equal(first_guess(after.references, *query), fresh)
