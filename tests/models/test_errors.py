"""Faults of recipes, files and machines, each in a line that says what to write."""

from pathlib import Path

import pytest
import torch
import yaml
from typer.testing import CliRunner

from models.cli import app
from models.errors import UnknownSetting, UnreadableYaml, exit_in_one_line, read_yaml
from models.families import find_yaml
from models.mateformer.recipe import MateformerRecipe
from models.pipeline.learner import NoSuchDevice, choose_device, save_checkpoint
from models.radio.path_table import PathTablesMissing, require_tables


@pytest.fixture
def recipe(mateformer_recipe: MateformerRecipe) -> dict[str, object]:
    return mateformer_recipe.model_dump(mode="json")


def complaint_about(content: object, folder: Path) -> list[str]:
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(SystemExit) as ended, exit_in_one_line():
        MateformerRecipe.load(path)
    assert "pydantic" not in str(ended.value)
    return [line.removeprefix(f"fingerpost-train: {path}: ") for line in str(ended.value).splitlines()]


def test_each_fault_of_a_recipe_has_its_line_and_a_misspelt_field_the_nearest_one(
    recipe: dict[str, object], tmp_path: Path
) -> None:
    optimiser = dict(recipe.pop("optimiser"))  # type: ignore[call-overload]
    optimiser["stepps"] = optimiser.pop("steps")
    optimiser["learning_rate"] = "fast"
    lines = complaint_about({**recipe, "optimiser": optimiser, "sead": 3}, tmp_path)
    assert "optimiser.stepps: no such field; is steps meant?" in lines
    assert "optimiser.steps: Field required" in lines
    assert any(line.startswith("optimiser.learning_rate: Input should be a valid number") for line in lines)
    assert "sead: no such field; is seed meant?" in lines
    assert len(lines) == 4


def test_a_field_in_a_list_or_an_optional_section_has_its_neighbours(recipe: dict[str, object], tmp_path: Path) -> None:
    radio = dict(recipe["radio"]) | {"bandwith": 4e7}  # type: ignore[call-overload]
    lines = complaint_about({**recipe, "radio": radio}, tmp_path)
    assert lines == ["radio.bandwith: no such field; is bandwidth meant?"]


def test_an_unknown_setting_of_a_model_is_named_with_the_nearest(mateformer_recipe: MateformerRecipe) -> None:
    misspelt = mateformer_recipe.model_copy(update={"model": {**mateformer_recipe.model, "dpeth": 3}})
    with pytest.raises(UnknownSetting, match=r"model\.dpeth: no such setting; is depth meant\?"):
        misspelt.config()


def test_a_file_that_is_no_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("family: mateformer\nradio: {array: [\n")
    with pytest.raises(UnreadableYaml, match=r"recipe\.yaml, line 3: not YAML"):
        read_yaml(tmp_path / "recipe.yaml")
    (tmp_path / "recipe.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UnreadableYaml, match="is not text"):
        read_yaml(tmp_path / "recipe.yaml")


def test_missing_path_tables_are_named_with_the_command_that_traces_them(tmp_path: Path) -> None:
    names = ("munich-0003", "munich-0004", "etoile-nlos-0900", "munich-0006")
    with pytest.raises(PathTablesMissing) as missing:
        require_tables(tmp_path / f"{name}.paths.safetensors" for name in names)
    assert str(missing.value) == (
        f"there is no path table {tmp_path}/munich-0003.paths.safetensors and 3 more; trace them first: "
        f"fingerpost-train scenes trace munich:3-4 munich:6 etoile-nlos:900 --out {tmp_path}"
    )


def test_the_command_has_carrier_stations_and_street(tmp_path: Path) -> None:
    band = tmp_path / "2.6GHz"
    with pytest.raises(PathTablesMissing, match=r"trace munich:202 --out .*2\.6GHz --carrier-ghz 2\.6$"):
        require_tables([band / "munich-0202.paths.safetensors"])
    stations = [tmp_path / f"florence-0300{one}.paths.safetensors" for one in ("", "-1", "-2", "-3")]
    with pytest.raises(PathTablesMissing, match=r"trace florence:300 --out \S+ --stations 4$"):
        require_tables(stations)
    with pytest.raises(PathTablesMissing, match=r"trace munich:1 --out \S+ --street cars-moved$"):
        require_tables([tmp_path / "munich-0001-cars-moved.paths.safetensors"])
    with pytest.raises(PathTablesMissing, match=r"trace munich-nlos:1 --out \S+ --stations 2 --street traffic-30$"):
        require_tables([tmp_path / "munich-nlos-0001-1-traffic-30.paths.safetensors"])


def test_each_state_of_the_streets_has_a_command_of_its_own(tmp_path: Path) -> None:
    names = ("munich-0001", "munich-0001-traffic-1", "munich-0002-traffic-1", "munich-0002-traffic-2")
    with pytest.raises(PathTablesMissing) as missing:
        require_tables(tmp_path / f"{name}.paths.safetensors" for name in names)
    assert str(missing.value).partition("first: ")[2] == " && ".join(
        f"fingerpost-train scenes trace munich:{cells} --out {tmp_path}{street}"
        for cells, street in (("1", ""), ("1-2", " --street traffic-1"), ("2", " --street traffic-2"))
    )


def test_a_file_with_the_name_of_no_cell_has_no_command(tmp_path: Path) -> None:
    with pytest.raises(PathTablesMissing, match=r"there is no path table \S+/mine$"):
        require_tables([tmp_path / "mine"])


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_a_machine_without_cuda_says_so() -> None:
    with pytest.raises(NoSuchDevice, match="finds no CUDA here; use --device cpu"):
        choose_device("cuda")
    with pytest.raises(NoSuchDevice, match="'gpu' is neither cpu nor cuda"):
        choose_device("gpu")


@pytest.mark.parametrize(
    ("content", "words", "complaint"),
    [
        ("radio: {}\n", ("fit", "recipe.yaml", "run"), "recipe.yaml has no field 'family'"),
        ("family: mateformr\n", ("fit", "recipe.yaml", "run"), "unknown family 'mateformr': one of mateformer"),
        (
            "family: lwlm\n",
            ("scenes", "survey", "munich:0", "--recipe", "recipe.yaml", "--out", "x"),
            "no section radio",
        ),
        (None, ("fit", "absent.yaml", "run"), "absent.yaml: No such file or directory"),
    ],
)
def test_a_wrong_file_is_named_without_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, words: tuple[str, ...], complaint: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        (tmp_path / "recipe.yaml").write_text(content)
    result = CliRunner().invoke(app, list(words))
    assert (result.exit_code, complaint in result.output) == (1, True), result.output
    assert result.output.count("\n") == 1


def test_a_run_that_was_not_trained_is_named_with_what_to_do(tmp_path: Path) -> None:
    (shipped,) = (path for path in find_yaml("mateformer", "recipes") if path.stem == "mateformer")
    result = CliRunner().invoke(app, ["export", str(shipped), str(tmp_path / "run"), str(tmp_path / "artifact")])
    assert result.exit_code == 1
    assert "fingerpost-train" in result.output
    assert "Traceback" not in result.output


def test_a_full_disk_ends_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"fingerpost-train: .*No space left on device"), exit_in_one_line():
        Path("/dev/full").write_text("a checkpoint")
    checkpoint = tmp_path / "checkpoint.pt"
    checkpoint.with_name("checkpoint.pt.partial").symlink_to("/dev/full")
    with pytest.raises(SystemExit, match=r"cannot be written; is the disk full\?"), exit_in_one_line():
        save_checkpoint({"weights": torch.zeros(100_000)}, checkpoint)
    assert not checkpoint.exists()
