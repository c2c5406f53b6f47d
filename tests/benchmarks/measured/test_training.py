from pathlib import Path

import pytest

from benchmarks.measured import training
from benchmarks.measured.corridors import read_corridors
from benchmarks.measured.report import Section, Trained, report
from benchmarks.measured.training import Setting, alloc, fine_tuning, learn, shipped_recipe, write_recipe
from models.artifact import MANIFEST_FILE
from models.mateformer.recipe import MateformerRecipe

SETTINGS = (Setting(1e-3, 1, 2), Setting(1e-2, 3, 3))


@pytest.fixture(scope="module")
def base() -> MateformerRecipe:
    """The shipped recipe in a size that a test can train."""
    recipe = shipped_recipe()
    small = {"known": (16, 24), "neighbourhoods": 2, "to_infer": 4}
    return recipe.model_copy(
        update={
            "model": {"width": 16, "depth": 1, "hidden": 16, "heads": 2},
            "batch": recipe.batch.model_copy(update=small),
        }
    )


def test_a_model_is_fine_tuned_from_the_shipped_weights_on_the_given_corridors_only(file: Path, tmp_path: Path) -> None:
    corridors = read_corridors(file, "channel")
    recipe = write_recipe(fine_tuning(SETTINGS), shipped_recipe(), SETTINGS[1], corridors[1:], tmp_path)
    assert recipe.start is not None
    assert Path(recipe.start).exists()
    assert recipe.cells.train == []
    assert [Path(str(one)).name for one in recipe.cells.fingerprints] == ["corridor-2-3.safetensors"]
    assert (recipe.optimiser.learning_rate, recipe.optimiser.steps) == (1e-2, 3)
    assert recipe.model == shipped_recipe().model


def test_allocs_recipe_starts_with_fresh_weights_and_the_loss_of_the_paper(file: Path, tmp_path: Path) -> None:
    corridors = read_corridors(file, "channel")
    recipe = write_recipe(alloc(SETTINGS), shipped_recipe(), SETTINGS[0], corridors, tmp_path)
    assert (recipe.start, recipe.optimiser.loss, recipe.optimiser.name) == (None, "mse", "adam")
    assert recipe.batch.known == (16, 64)


def test_the_setting_with_the_lowest_error_at_held_out_locations_is_exported(
    file: Path, base: MateformerRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exported = []

    def export(recipe: MateformerRecipe, run: Path, folder: Path, paths: Path) -> None:  # the real one takes a minute
        exported.append((recipe, run.name))
        folder.mkdir(parents=True)
        (folder / MANIFEST_FILE).write_text("{}")

    monkeypatch.setattr(training, "export_run", export)
    others = read_corridors(file, "channel")[1:]
    plan = alloc(SETTINGS)
    learned = learn(plan, base, others, tmp_path)
    assert set(learned.held_out) == set(SETTINGS)
    assert 0 < learned.held_out[learned.chosen] == min(learned.held_out.values())
    assert learned.before is None
    ((recipe, run),) = exported
    assert run == learned.chosen.folder
    assert recipe.optimiser.steps == learned.chosen.steps
    again = learn(plan, base, others, tmp_path)  # resumes: nothing is trained or exported twice
    assert len(exported) == 1
    assert again.held_out == learned.held_out
    text = report([Section("channel", [], [Trained("corridor-1", plan.name, learned)], {})], "command")
    assert text.count("| corridor-1 | ALLoc's recipe |") == len(SETTINGS)
    assert text.count("| yes |") == 1
