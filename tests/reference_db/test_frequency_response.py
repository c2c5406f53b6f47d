"""CSI that is no frequency response by ascending frequency is told from that of honest radios of all kinds."""

from pathlib import Path

import numpy as np
import pytest

from models.radio.path_table import PathTable
from reference_db import AntennaArray, read_fingerprint_file
from reference_db.frequency_response import ResponseVerdict, judge_response
from reference_db.plausibility import check_plausibility
from tests.reference_db.surveys import in_a_rectangle, make_cell, make_survey
from tests.reference_db.test_plausibility import ROOT, STREET, TRACED, found, seen_by, survey

DEMO = ("florence-0000-references", "florence-nlos-0000-references", "munich-0202-trajectories")


@pytest.mark.parametrize("name", DEMO)
def test_the_order_of_an_fft_is_refused_and_named(name: str) -> None:
    cell, fingerprints = read_fingerprint_file(ROOT / "benchmarks" / "data" / f"{name}.safetensors")
    for shift in (np.fft.fftshift, np.fft.ifftshift):
        shifted = survey(shift(fingerprints.csi[:256], axes=-1), fingerprints.positions[:256])
        assert found(shifted, cell) == [("response", "refused")]
        assert "--subcarrier-order fft" in check_plausibility(shifted, cell).findings[0].advice


@pytest.mark.parametrize(
    ("rows", "columns", "subcarriers", "bandwidth"),
    [(1, 32, 32, 40e6), (8, 8, 32, 100e6), (1, 8, 8, 5e6), (1, 2, 33, 40e6), (1, 1, 64, 20e6), (1, 4, 12, 5e6)],
)
def test_traced_radios_are_told_from_their_shifted_and_transformed_csi(
    rows: int, columns: int, subcarriers: int, bandwidth: float
) -> None:
    table = PathTable.load(Path(TRACED))
    _, fingerprints = seen_by(table, AntennaArray(rows=rows, columns=columns), subcarriers, bandwidth)
    csi = fingerprints.csi[:150]
    assert judge_response(csi) == ResponseVerdict("good")
    assert judge_response(np.fft.ifftshift(csi, axes=2)) == ResponseVerdict("order of an FFT", clear=True)
    assert judge_response(np.fft.fftshift(csi, axes=2)) == ResponseVerdict("order of an FFT", clear=True)
    assert judge_response(np.fft.ifft(csi, axis=2).astype(np.complex64)).response == "impulse response"


@pytest.mark.parametrize("noise_db", [-20.0, -3.0, 10.0])
@pytest.mark.parametrize("sight", [True, False])
def test_noise_poor_clocks_and_blocked_paths_are_no_reason_for_a_finding(noise_db: float, sight: bool) -> None:
    for antennas, subcarriers, bandwidth in ((1, 64, 20e6), (2, 33, 20e6), (8, 16, 5e6)):
        cell = make_cell(1, antennas, subcarriers, bandwidth, yaw=0.4)
        places = in_a_rectangle(100, *STREET[0])
        csi = make_survey(cell, places, STREET[1], sight=sight, clock_s=1e-6, noise_db=noise_db).csi
        assert judge_response(csi) == ResponseVerdict("good")
        if noise_db < 0:
            assert judge_response(np.fft.ifftshift(csi, axes=2)).response == "order of an FFT"


@pytest.mark.parametrize("gap", ["a silent carrier", "guard subcarriers", "two carriers side by side"])
def test_gaps_in_the_middle_of_the_band_are_not_taken_for_an_fft(gap: str) -> None:
    for sight in (True, False):
        wide = make_survey(make_cell(1, 4, 72, 20e6), in_a_rectangle(100, *STREET[0]), STREET[1], sight=sight).csi
        if gap == "a silent carrier":
            csi = wide.copy()
            csi[:, :, 36] = 0
        elif gap == "guard subcarriers":
            csi = np.delete(wide, np.arange(32, 40), axis=2)
        else:
            phases = np.exp(2j * np.pi * np.random.default_rng(0).random((100, 1, 1)))
            csi = np.concatenate([wide[:, :, :36], wide[:, :, 36:] * phases], axis=2).astype(np.complex64)
        assert judge_response(csi) == ResponseVerdict("good")


def test_magnitudes_or_phases_alone_are_found_without_line_of_sight_too() -> None:
    cell = make_cell(1, 8, 16)
    honest = make_survey(cell, in_a_rectangle(200, *STREET[0]), STREET[1], sight=False)
    magnitudes = np.abs(honest.csi)
    assert found(survey(magnitudes, honest.positions), cell) == [("response", "refused")]
    assert ("response", "warning") in found(survey(honest.csi / magnitudes, honest.positions), cell)


def test_a_survey_whose_layout_cannot_be_judged_says_so() -> None:
    cell = make_cell(1, 8, 16)
    places = in_a_rectangle(200, *STREET[0])
    seen, unseen = (make_survey(cell, places, STREET[1], sight=sight) for sight in (True, False))
    assert check_plausibility(seen, cell)[2:] == (None, None)
    few = survey(seen.csi[:40], seen.positions[:40])
    assert check_plausibility(few, cell).unjudged == "fewer than 64 fingerprints tell too little"
    assert "as without line of sight" in str(check_plausibility(unseen, cell).unjudged)
    column = make_cell(8, 1, 16)
    assert "one column" in str(check_plausibility(make_survey(column, places, STREET[1]), column).unjudged)
