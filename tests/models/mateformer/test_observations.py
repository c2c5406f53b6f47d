from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.artifact.channel_transform import ChannelTransform
from models.mateformer.conditions import find_conditions
from models.mateformer.evaluation import CellErrors
from models.mateformer.locators import Positions
from models.mateformer.measurement import measure
from models.mateformer.observations import CellTables, count_located, group_conditions
from models.mateformer.recipe import MateformerRecipe
from models.radio.cells import RadioCell
from models.radio.path_table import PathTable, take_users
from models.radio.street_changes import StreetState
from models.radio.tracing import table_path

SOME = find_conditions(["gnss_1m", "same_day", "week", "week_no_gnss"])
HELD = 200  # references of `mateformer_recipe`


class Centroid:
    """Answers the mean position of the neighbourhood, and keeps the CSI that it was shown."""

    def __init__(self) -> None:
        self.described: list[np.ndarray] = []

    def describe(self, channel: ChannelTransform, csi: np.ndarray) -> np.ndarray:
        self.described.append(csi)
        return np.zeros((len(csi), 1), np.float32)

    def locate(self, features_known, positions_known, sigmas_known, features, coarse, accuracy) -> Positions:
        positions = positions_known.mean(axis=1, keepdims=True)
        return Positions(positions, np.broadcast_to(np.eye(2, dtype=np.float32), (*positions.shape, 2)))


def save(table: PathTable, folder: Path, street: StreetState | None) -> Path:
    path = table_path(folder, "etoile", 900, street=street)
    replace(table, site=replace(table.site, street=str(street or ""))).save(path)
    return path


@pytest.fixture
def week(table: PathTable, tmp_path: Path) -> Path:
    """The cell on three days. On the last, users from number 180 on were traced, and signals are twice as strong."""
    save(table, tmp_path, None)
    save(table, tmp_path, StreetState.CARS)
    late = take_users(table, 180, len(table.users))
    save(replace(late, gain=2 * late.gain), tmp_path, StreetState.CARS_MOVED)
    return tmp_path


def test_users_a_week_later_are_located_with_the_references_of_before(
    week: Path, cell: RadioCell, mateformer_recipe: MateformerRecipe
) -> None:
    locator = Centroid()
    (one,) = measure(locator, mateformer_recipe, week, ("test",), find_conditions(["week"]))["test"]
    references, users = locator.described
    np.testing.assert_allclose(references, cell.csi[:HELD])
    np.testing.assert_allclose(users, 2 * cell.csi[HELD:], rtol=1e-5)
    (located,) = one.located.values()
    assert len(located.errors["mateformer"]) == len(cell.positions) - HELD
    np.testing.assert_array_equal(located.line_of_sight, cell.line_of_sight[HELD:])


def test_the_same_users_are_located_on_all_days(week: Path, mateformer_recipe: MateformerRecipe) -> None:
    (one,) = measure(Centroid(), mateformer_recipe, week, ("test",), SOME, users=20)["test"]
    bare, same_day, later, _ = (one.located[some.complete_from(mateformer_recipe)].errors for some in SOME)
    for name in ("gnss", "bound"):  # the level changes neither
        assert len(bare[name]) == 20
        np.testing.assert_allclose(same_day[name], bare[name], rtol=1e-4)
        np.testing.assert_allclose(later[name], bare[name], rtol=1e-4)


def test_a_street_without_tables_of_both_days_is_left_out_with_the_command_that_traces_them(
    week: Path, mateformer_recipe: MateformerRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    def names(measured: CellErrors) -> set[str]:
        return {condition.name for condition in measured.located}

    table_path(week, "etoile", 900, street=StreetState.CARS_MOVED).unlink()
    (one,) = measure(Centroid(), mateformer_recipe, week, ("test",), SOME, users=3)["test"]
    assert names(one) == {"gnss_1m", "same_day"}
    assert f"fingerpost-train scenes trace etoile:900 --out {week} --street cars-moved\n" in capsys.readouterr().err
    table_path(week, "etoile", 900, street=StreetState.CARS).unlink()
    (one,) = measure(Centroid(), mateformer_recipe, week, ("test",), SOME, users=3)["test"]
    assert names(one) == {"gnss_1m"}
    (first, second, *_) = capsys.readouterr().err.splitlines()
    assert first.startswith("left out: the recipe's radio, references in cars, users in cars: ")
    assert second.startswith("left out: the recipe's radio, references in cars, users in cars-moved: ")
    assert second.endswith("--street cars-moved")


def test_a_survey_with_too_few_references_has_no_users(
    week: Path, table: PathTable, mateformer_recipe: MateformerRecipe, capsys: pytest.CaptureFixture[str]
) -> None:
    few = save(take_users(table, 0, HELD - 1), week, StreetState.CARS)
    later = table_path(week, "etoile", 900, street=StreetState.CARS_MOVED)
    assert count_located(CellTables(few, later), HELD) == 0
    (one,) = measure(Centroid(), mateformer_recipe, week, ("test",), SOME, users=3)["test"]
    assert len(one.located) == 1
    assert f"too few users beside {HELD} references" in capsys.readouterr().err


def test_the_bare_street_and_the_recipes_radio_come_first() -> None:
    groups = group_conditions(find_conditions(["week", "8x8_gnss_1m", "gnss_1m", "no_gnss"]))
    assert [[one.name for one in some] for some in groups.values()] == [
        ["gnss_1m", "no_gnss"],
        ["week"],
        ["8x8_gnss_1m"],
    ]
