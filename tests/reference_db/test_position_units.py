"""Positions in feet, centimetres or millimetres are recognised where delays tell; elsewhere there is no verdict."""

from dataclasses import replace

import numpy as np
import pytest

from reference_db import Cell, Fingerprints, read_fingerprint_file
from reference_db.plausibility import check_plausibility
from reference_db.position_units import judge_units
from tests.reference_db.surveys import in_a_rectangle, make_cell, make_survey
from tests.reference_db.test_plausibility import ROOT, STREET

IN_A_METRE = {"m": 1.0, "ft": 1 / 0.3048, "cm": 100.0, "mm": 1000.0}


def scaled(fingerprints: Fingerprints, unit: str) -> Fingerprints:
    return replace(fingerprints, positions=(fingerprints.positions * IN_A_METRE[unit]).astype(np.float32))


def street(cell: Cell, *, sight: bool = True, clock_s: float = 0.0) -> Fingerprints:
    return make_survey(cell, in_a_rectangle(200, *STREET[0]), STREET[1], sight=sight, clock_s=clock_s)


@pytest.mark.parametrize("unit", IN_A_METRE)
@pytest.mark.parametrize("name", ["florence-0000-references", "florence-0001-references", "munich-0202-trajectories"])
def test_units_of_traced_surveys_are_recognised(name: str, unit: str) -> None:
    cell, fingerprints = read_fingerprint_file(ROOT / "benchmarks" / "data" / f"{name}.safetensors")
    sent = scaled(fingerprints, unit)
    verdict = judge_units(sent.csi[:256], sent.positions[:256], cell)
    assert (verdict.unit, verdict.clear) == (unit, True)


@pytest.mark.parametrize("unit", IN_A_METRE)
@pytest.mark.parametrize(
    ("rows", "columns", "subcarriers", "bandwidth"), [(1, 8, 16, 40e6), (8, 8, 32, 100e6), (1, 4, 12, 5e6)]
)
@pytest.mark.parametrize("clock_s", [0.0, 20e-9])
def test_poor_clocks_do_not_hide_the_units(
    rows: int, columns: int, subcarriers: int, bandwidth: float, unit: str, clock_s: float
) -> None:
    cell = make_cell(rows, columns, subcarriers, bandwidth)
    sent = scaled(street(cell, clock_s=clock_s), unit)
    assert judge_units(sent.csi, sent.positions, cell).unit == unit


@pytest.mark.parametrize("unit", IN_A_METRE)
@pytest.mark.parametrize("reason", ["no common clock", "delays compensated", "no line of sight"])
def test_delays_that_tell_nothing_give_no_verdict(unit: str, reason: str) -> None:
    cell = make_cell(1, 8, 32, 40e6)
    made = street(cell, sight=reason != "no line of sight", clock_s=1e-6 if reason == "no common clock" else 0.0)
    if reason == "delays compensated":
        lengths = np.hypot(np.linalg.norm(made.positions, axis=1), cell.height - 1.5)
        phases = 2j * np.pi * np.outer(lengths / 299_792_458.0, np.arange(32) * 40e6 / 32)
        made = replace(made, csi=(made.csi * np.exp(phases)[:, None, :]).astype(np.complex64))
    sent = scaled(made, unit)
    assert judge_units(sent.csi, sent.positions, cell).unit is None


def test_feet_taken_as_metres_are_refused_and_the_option_is_named() -> None:
    cell = make_cell(1, 8, 16)
    verdict = check_plausibility(scaled(street(cell), "ft"), cell)
    (finding,) = verdict.findings
    assert (finding.name, finding.severity) == ("units", "refused")
    assert "feet, not metres" in finding.reason
    assert "--units ft" in finding.advice
    assert verdict.positions_unjudged is None


def test_positions_that_cannot_be_judged_are_said_to_be_so() -> None:
    cell = make_cell(1, 8, 16)
    seen, unseen, unsynchronised = street(cell), street(cell, sight=False), street(cell, clock_s=1e-6)
    for one in (unseen, scaled(unseen, "ft")):
        verdict = check_plausibility(one, cell)
        assert verdict.findings == []
        unjudged = str(verdict.positions_unjudged)
        assert "or east and north are exchanged; wrong units" in unjudged
        assert "the base station is not at 0,0 of the positions (convert: --origin)" in unjudged
    for one in (unsynchronised, scaled(unsynchronised, "cm")):
        assert "clocks differ, or few users" in str(check_plausibility(one, cell).positions_unjudged)
    column = make_cell(8, 1, 16)
    assert "without bearings" in str(check_plausibility(street(column), column).positions_unjudged)
    conjugated = check_plausibility(replace(seen, csi=seen.csi.conj()), cell)
    assert conjugated.positions_unjudged == "bearings must fit the positions first"


def test_an_exchange_that_bearings_cannot_tell_from_a_blocked_view_is_named() -> None:
    cell, fingerprints = read_fingerprint_file(ROOT / "benchmarks" / "data" / "florence-0001-references.safetensors")
    exchanged = replace(fingerprints, positions=fingerprints.positions[:, ::-1].copy())
    verdict = check_plausibility(exchanged, cell)
    assert verdict.bearing is not None
    assert verdict.bearing.agreement < verdict.bearing.chance
    assert "or east and north are exchanged" in str(verdict.positions_unjudged)
