import ast
from pathlib import Path

import pytest
from typer.main import get_group
from typer.testing import CliRunner

import models
from models.cli import app
from models.families import (
    FAMILIES,
    PACKAGE,
    STUDIES,
    UnknownFamily,
    find_experiments,
    find_yaml,
    load_commands,
    read_family,
)

SHIPPED = sorted(manifest.parent for manifest in (PACKAGE / "artifacts").glob("*/artifact.json"))

NEW_FAMILY = """
import typer

from models.pipeline.options import RecipeFile, RunFolder

app = typer.Typer()


@app.command()
def fit(recipe: RecipeFile, run: RunFolder, shots: int = 1) -> None:
    typer.echo(f"newcomer learns from {shots} shots in {run}")


@app.command()
def predict() -> None:
    pass
"""


@pytest.fixture
def newcomer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recipe of a new family, whose package has a single command."""
    (tmp_path / "newcomer").mkdir()
    (tmp_path / "newcomer" / "__init__.py").touch()
    (tmp_path / "newcomer" / "cli.py").write_text(NEW_FAMILY)
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(tmp_path)])
    monkeypatch.setitem(FAMILIES, "newcomer", "newcomer")
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("family: newcomer\n")
    return recipe


def test_a_new_family_is_one_package_and_one_line(newcomer: Path) -> None:
    done = CliRunner().invoke(app, ["fit", "--shots", "3", str(newcomer), "runs/few"])
    assert done.exit_code == 0, done.output
    assert done.output == "newcomer learns from 3 shots in runs/few\n"


def test_help_after_a_recipe_lists_the_options_of_its_family(newcomer: Path) -> None:
    done = CliRunner().invoke(app, ["fit", str(newcomer), "--help"])
    assert done.exit_code == 0
    assert "--shots" in done.output


def test_a_command_that_the_family_does_not_have_is_a_usage_error(newcomer: Path) -> None:
    done = CliRunner().invoke(app, ["export", str(newcomer), "runs/few", "artifact"])
    assert done.exit_code == 2
    assert "the family newcomer has no command export; it has: fit, predict" in done.output


@pytest.mark.parametrize("words", [["fit"], ["fit", "--help"], ["evaluate", "--help"], ["experiment", "--help"]])
def test_without_a_file_the_command_says_what_it_needs(words: list[str]) -> None:
    done = CliRunner().invoke(app, words)
    assert done.exit_code == (0 if "--help" in words else 2)
    assert f"{words[0]} " in done.output
    assert ("scadf-mix" in done.output) == (words[0] == "experiment")


@pytest.mark.parametrize("content", ["name: small\n", "family: oracle\n", "[]\n"])
def test_a_recipe_without_a_known_family_is_one_line_not_a_traceback(content: str, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(content)
    failed = CliRunner().invoke(app, ["fit", str(recipe), str(tmp_path)])
    assert isinstance(failed.exception, SystemExit)
    assert "family" in str(failed.exception)


def test_the_family_is_read_from_recipes_experiments_and_artifacts() -> None:
    for family, package in (FAMILIES | STUDIES).items():
        files = [*find_yaml(package, "recipes"), *find_yaml(package, "experiments")]
        assert {read_family(file) for file in files} == {family}
    assert {folder.name: read_family(folder) for folder in SHIPPED} == {folder.name: folder.name for folder in SHIPPED}


def test_every_family_trains_and_a_shipped_one_exports_and_experiments() -> None:
    for family in FAMILIES:
        assert "fit" in get_group(load_commands(family)).commands
    assert {"mateformer", "scadf-moe"} <= {folder.name for folder in SHIPPED}
    for folder in SHIPPED:
        assert set(get_group(load_commands(read_family(folder))).commands) >= {"fit", "export", "experiment"}
        assert (
            len([*find_yaml(FAMILIES[folder.name], "recipes"), *find_yaml(FAMILIES[folder.name], "experiments")]) >= 2
        )
    with pytest.raises(UnknownFamily, match="oracle"):
        load_commands("oracle")


def test_experiments_of_all_families_have_different_names() -> None:
    packages = (FAMILIES | STUDIES).values()
    assert len(find_experiments()) == sum(len(find_yaml(package, "experiments")) for package in packages)


def test_no_family_imports_another_and_nothing_shared_but_a_study_imports_a_family() -> None:
    studies = [PACKAGE / package for package in STUDIES.values()]
    for file in PACKAGE.rglob("*.py"):
        if any(file.is_relative_to(study) for study in studies):
            continue
        imported = {
            node.module for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.ImportFrom)
        } | {
            alias.name
            for node in ast.walk(ast.parse(file.read_text()))
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        for package in FAMILIES.values():
            if file.is_relative_to(PACKAGE / package):
                continue
            assert not any(f"{name}.".startswith(f"models.{package}.") for name in imported), file


def test_a_misspelt_field_of_a_recipe_is_one_line_not_a_traceback(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text((PACKAGE / "mateformer/recipes/mateformer.yaml").read_text().replace("  steps: ", "  stepz: "))
    failed = CliRunner().invoke(app, ["fit", str(recipe), str(tmp_path)])
    assert isinstance(failed.exception, SystemExit)
    assert "optimiser.stepz: no such field; is steps meant?" in str(failed.exception)


def test_a_missing_path_table_names_the_command_that_makes_it(tmp_path: Path) -> None:
    shipped = (PACKAGE / "mateformer/recipes/mateformer.yaml").read_text()
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("".join(line for line in shipped.splitlines(keepends=True) if not line.startswith("start:")))
    failed = CliRunner().invoke(app, ["fit", str(recipe), str(tmp_path / "run"), "--paths", str(tmp_path)])
    assert isinstance(failed.exception, SystemExit)
    assert "fingerpost-train scenes trace" in str(failed.exception)


def test_an_unknown_experiment_is_named(tmp_path: Path) -> None:
    failed = CliRunner().invoke(app, ["experiment", "ablatoin"])
    assert failed.exit_code == 2
    assert "ablatoin" in failed.output
