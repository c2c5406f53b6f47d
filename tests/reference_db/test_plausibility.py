"""Whole surveys that cannot be what they claim to be, and honest ones of all kinds of radios."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.radio.channel import synthesise
from models.radio.front_end import Radio
from models.radio.path_table import PathTable
from reference_db import AntennaArray, Cell, Fingerprints, read_fingerprint_file
from reference_db.element_order import judge_order
from reference_db.plausibility import check_plausibility
from tests.reference_db.surveys import Floats, in_a_rectangle, make_cell, make_survey

ROOT = Path(__file__).parents[2]
TRACED = ROOT / "tests" / "models" / "data" / "etoile-0900.paths.safetensors"
STREET = (30.0, -20.0, 90.0, 20.0), (0.0, -25.0, 110.0, 25.0)  # where users are, and the walls


@pytest.fixture(scope="module")
def table() -> PathTable:
    return PathTable.load(TRACED)


def seen_by(
    table: PathTable, array: AntennaArray, subcarriers: int = 32, bandwidth: float = 40e6
) -> tuple[Cell, Fingerprints]:
    """A traced survey, 84 % of it in line of sight."""
    cell = make_cell(array.rows, array.columns, subcarriers, bandwidth, table.site.yaw)
    cell = cell.model_copy(update={"height": table.site.bs_height_above_ground, "array": array})
    radio = Radio(array=array, subcarriers=subcarriers, bandwidth=bandwidth)
    csi = synthesise(table, radio, table.site.yaw)[table.reached]
    return cell, survey(csi, table.users[table.reached, :2])


def survey(csi: np.ndarray, positions: np.ndarray) -> Fingerprints:
    labels = np.zeros(len(csi)), np.full(len(csi), 0.05, np.float32)
    return Fingerprints(np.ascontiguousarray(csi, np.complex64), positions.astype(np.float32), *labels)


def found(fingerprints: Fingerprints, cell: Cell, *, whole: bool = True) -> list[tuple[str, str]]:
    return [finding[:2] for finding in check_plausibility(fingerprints, cell, whole=whole).findings]


@pytest.mark.parametrize("name", ["florence-0000-references", "florence-0001-references", "munich-0202-trajectories"])
def test_the_surveys_that_ship_are_plausible(name: str) -> None:
    cell, fingerprints = read_fingerprint_file(ROOT / "benchmarks" / "data" / f"{name}.safetensors")
    assert found(fingerprints, cell) == []


@pytest.mark.parametrize(
    ("array", "subcarriers", "bandwidth"),
    [
        (AntennaArray(rows=1, columns=32), 32, 40e6),
        (AntennaArray(rows=8, columns=8), 32, 100e6),
        (AntennaArray(rows=2, columns=16), 32, 40e6),
        (AntennaArray(rows=4, columns=4), 16, 20e6),
        (AntennaArray(rows=1, columns=8, spacing=0.7), 8, 5e6),
        (AntennaArray(rows=1, columns=4), 32, 40e6),
        (AntennaArray(rows=1, columns=2), 32, 40e6),
        (AntennaArray(rows=8, columns=1), 32, 40e6),
        (AntennaArray(rows=1, columns=1), 64, 20e6),
        (AntennaArray(rows=1, columns=16), 1, 1e6),
    ],
)
def test_traced_surveys_of_any_radio_are_plausible(
    table: PathTable, array: AntennaArray, subcarriers: int, bandwidth: float
) -> None:
    cell, fingerprints = seen_by(table, array, subcarriers, bandwidth)
    assert found(fingerprints, cell) == []


@pytest.mark.parametrize("sight", [True, False])
@pytest.mark.parametrize(
    ("area", "walls"),
    [
        STREET,
        ((20, 9.8, 120, 10.2), (-20, -12, 150, 14)),  # a line along the street
        ((0.5, -2.5, 10.5, 2.5), (-0.1, -3, 11, 3)),  # a room of 10 m x 5 m
        ((-40, -40, 40, 40), (-50, -50, 50, 50)),  # all around the base station
    ],
)
def test_honest_surveys_are_never_refused(
    area: tuple[float, float, float, float], walls: tuple[float, float, float, float], sight: bool
) -> None:
    """Few antennas, narrow bands, poor clocks, random phases; `sight`: whether users see the base station."""
    for antennas, subcarriers, bandwidth in ((1, 64, 20e6), (2, 32, 20e6), (4, 16, 20e6), (8, 16, 5e6)):
        cell = make_cell(1, antennas, subcarriers, bandwidth, yaw=0.4)
        clock_s = 1e-6 if antennas == 8 else 20e-9
        fingerprints = make_survey(cell, in_a_rectangle(256, *area), walls, sight=sight, clock_s=clock_s)
        assert "refused" not in {severity for _, severity in found(fingerprints, cell)}, antennas


def test_many_measurements_of_few_places_are_plausible() -> None:
    cell = make_cell(1, 8)
    places = np.repeat(in_a_rectangle(40, *STREET[0]), 24, axis=0)
    assert found(make_survey(cell, places, STREET[1]), cell) == []


@pytest.mark.parametrize(
    ("positions", "finding"),
    [
        (lambda p: np.array([48.0, 11.0]) + p / 1e5, ("degrees", "refused")),
        (lambda p: np.array([11.0, 48.0]) + p / 1e5, ("degrees", "refused")),
        (lambda p: p / 1e3, ("extent", "refused")),
        (lambda p: np.tile(p[:1], (len(p), 1)), ("extent", "refused")),
        (lambda p: p * 1e3, ("extent", "warning")),
        (lambda p: np.where(np.arange(len(p))[:, None] % 3, p[:1], p), ("spread", "warning")),
    ],
)
def test_implausible_positions_are_found(table: PathTable, positions: object, finding: tuple[str, str]) -> None:
    cell, fingerprints = seen_by(table, AntennaArray(rows=1, columns=4))
    moved = positions(fingerprints.positions.astype(np.float64))  # type: ignore[operator]
    assert finding in found(survey(fingerprints.csi, moved), cell)
    if finding[0] != "extent" or finding[1] != "warning":
        assert finding not in found(survey(fingerprints.csi, moved), cell, whole=False)


@pytest.mark.parametrize(("copied", "severity"), [(200, "refused"), (2, "warning")])
def test_one_snapshot_at_many_places_is_found(table: PathTable, copied: int, severity: str) -> None:
    cell, fingerprints = seen_by(table, AntennaArray(rows=1, columns=4))
    csi = fingerprints.csi.copy()
    csi[:copied] = csi[0]
    assert ("copies", severity) in found(survey(csi, fingerprints.positions), cell)
    assert ("copies", severity) in found(survey(csi, fingerprints.positions), cell, whole=False)


def test_one_snapshot_twice_at_one_place_is_plausible(table: PathTable) -> None:
    cell, fingerprints = seen_by(table, AntennaArray(rows=1, columns=4))
    twice = survey(np.tile(fingerprints.csi, (2, 1, 1)), np.tile(fingerprints.positions, (2, 1)))
    assert found(twice, cell) == []


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", ["noise", "shuffled"])
def test_csi_that_tells_nothing_about_the_place_is_refused(kind: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    cell = make_cell(1, 8, 16)
    fingerprints = make_survey(cell, in_a_rectangle(400, *STREET[0]), STREET[1])
    noise = random.standard_normal((*fingerprints.csi.shape, 2)).view(np.complex128)[..., 0]
    csi = noise if kind == "noise" else random.permutation(fingerprints.csi)
    assert found(survey(csi, fingerprints.positions), cell) == [("signal", "refused")]
    assert found(survey(csi, fingerprints.positions), cell, whole=False) == [("signal", "refused")]
    assert found(survey(csi[:100], fingerprints.positions[:100]), cell) == [("signal", "warning")]
    assert found(survey(csi[:40], fingerprints.positions[:40]), cell) == []  # too few to tell


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("poor", [False, True], ids=["good radio", "poor radio"])
def test_csi_in_another_order_or_convention_is_recognised(table: PathTable, rows: int, poor: bool) -> None:
    """32 x 32 hides a transposition from the check of shapes."""
    cell, fingerprints = seen_by(table, AntennaArray(rows=rows, columns=32 // rows))
    csi, positions = fingerprints.csi, fingerprints.positions
    if poor:
        random = np.random.default_rng(0)
        offsets = np.exp(-2j * np.pi * np.outer(random.normal(0, 20e-9, len(csi)), np.arange(32) * 1.25e6))
        csi = csi * (offsets * np.exp(2j * np.pi * random.random((len(csi), 1))))[:, None, :]
    arrays = csi.reshape(len(csi), rows, 32 // rows, 32)
    wrong = {
        "good": csi,
        "conjugated": csi.conj(),
        "columns reversed": arrays[:, :, ::-1].reshape(csi.shape),
        "subcarriers reversed": csi[..., ::-1],
        "transposed": csi.swapaxes(1, 2),
    }
    if rows > 1:
        wrong["column by column"] = arrays.swapaxes(1, 2).reshape(csi.shape)
    judged = {
        name: judge_order(np.ascontiguousarray(one[:150]), positions[:150], cell).order for name, one in wrong.items()
    }
    assert judged == {name: name for name in wrong}
    conjugated = check_plausibility(survey(csi.conj(), positions), cell).findings
    assert [finding[:2] for finding in conjugated] == [("order", "refused")]
    assert "the CSI is conjugated" in conjugated[0].reason


def test_arrays_of_unequal_sides_written_column_major_are_recognised(table: PathTable) -> None:
    cell, fingerprints = seen_by(table, AntennaArray(rows=1, columns=16))
    csi = fingerprints.csi.swapaxes(1, 2).reshape(fingerprints.csi.shape)
    assert judge_order(csi, fingerprints.positions, cell).order == "transposed"


@pytest.mark.parametrize(("antennas", "bandwidth"), [(8, 20e6), (16, 20e6), (32, 40e6)])
def test_square_csi_out_of_sight_is_never_transposed_without_a_word(antennas: int, bandwidth: float) -> None:
    cell = make_cell(1, antennas, antennas, bandwidth)
    for area, walls in (STREET, ((30, 0, 90, 40), (0, -5, 110, 45)), ((-40, -40, 40, 40), (-50, -50, 50, 50))):
        honest = make_survey(cell, in_a_rectangle(256, *area), walls, sight=False, clock_s=20e-9)
        transposed = survey(honest.csi.swapaxes(1, 2), honest.positions)
        assert ("order", "warning") in found(transposed, cell)
        if area != (-40, -40, 40, 40):
            assert found(honest, cell) == []
            reason = next(one.reason for one in check_plausibility(transposed, cell).findings if one.name == "order")
            assert "it may be transposed" in reason


@pytest.mark.parametrize("order", ["good", "columns reversed", "column by column"])
def test_the_order_of_two_polarisations_is_recognised(order: str) -> None:
    one = make_cell(rows=2, columns=8)
    positions = np.random.default_rng(0).uniform((10, -40), (60, 40), (400, 2))
    csi = make_survey(one, positions, (-5, -50, 80, 50)).csi
    if order == "columns reversed":
        csi = csi.reshape(400, 2, 8, -1)[:, :, ::-1].reshape(csi.shape)
    elif order == "column by column":
        csi = csi.reshape(400, 2, 8, -1).swapaxes(1, 2).reshape(csi.shape)
    cell = one.model_copy(update={"array": AntennaArray(rows=2, columns=8, polarisations=2)})
    both = np.concatenate([0.3 * csi, 1j * csi], axis=1).astype(np.complex64)
    assert judge_order(both, positions.astype(np.float32), cell).order == order


def test_an_azimuth_that_counts_from_east_is_a_warning_with_the_yaw_that_fits(table: PathTable) -> None:
    cell, fingerprints = seen_by(table, AntennaArray(rows=1, columns=16))
    compass = cell.model_copy(update={"yaw": np.pi / 2 - cell.yaw})
    assert found(fingerprints, compass) == [("azimuth", "warning")]
    yaw = judge_order(fingerprints.csi, fingerprints.positions, compass).yaw
    assert yaw is not None
    assert np.cos(yaw - cell.yaw) > np.cos(np.radians(5))


def test_a_single_antenna_has_no_bearing_and_only_a_warning(table: PathTable) -> None:
    cell, fingerprints = seen_by(table, AntennaArray(rows=1, columns=1))
    assert found(survey(fingerprints.csi.conj(), fingerprints.positions), cell) == [("order", "warning")]


def test_users_in_one_direction_give_no_verdict() -> None:
    """Their bearing may be that of a reflection."""
    cell = make_cell(yaw=0.0)
    positions: Floats = np.stack([np.linspace(20, 80, 200), np.linspace(20, 80, 200) * -0.8], axis=1)
    csi = make_survey(cell, positions, (0, -90, 110, 90)).csi
    assert judge_order(csi, positions.astype(np.float32), cell).order in ("good", "unknown")
    conjugated = judge_order(csi.conj(), positions.astype(np.float32), cell).order
    assert conjugated in ("unknown", "echoes first", "echoes along antennas")  # no reason to refuse


def test_a_few_fingerprints_and_huge_snapshots_are_no_reason_to_refuse() -> None:
    cell = make_cell(1, 4, 6)
    few = make_survey(cell, in_a_rectangle(3, *STREET[0]), STREET[1])
    assert found(few, cell) == []
    assert found(replace(few, positions=np.zeros_like(few.positions)), cell) == []
