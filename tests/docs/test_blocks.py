"""Every code block of the documentation is run, is valid against what it shows, or says why not."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi import FastAPI
from jsonschema import Draft202012Validator, ValidationError

from models.mateformer.recipe import MateformerRecipe
from models.pipeline.recipe import read_radio
from reference_db.fingerprint_file import read_cell_file
from service.app import create_app
from service.settings import Settings
from tests.docs.pages import Block, all_blocks

_NO_MARK = {"text", "promql"}  # output; queries, whose names test_reference compares with the metrics


@pytest.mark.parametrize("block", [block for block in all_blocks() if block.language not in _NO_MARK], ids=str)
def test_a_block_is_run_or_validated_or_says_why_not(block: Block) -> None:
    marks = [block.is_run, block.schema is not None, bool(block.reason_not_to_test)]
    assert sum(marks) == 1, "mark it: <!-- tested -->, <!-- schema: NAME --> or <!-- not tested: REASON -->"


@pytest.mark.parametrize("block", [block for block in all_blocks() if block.schema], ids=str)
def test_a_block_is_valid_against_the_schema_that_it_names(
    block: Block, schemas: dict[str, Any], tmp_path: Path
) -> None:
    assert block.schema is not None
    content = json.loads(block.code) if block.language == "json" else yaml.safe_load(block.code)
    if block.schema in _FILES:
        (tmp_path / "file.yaml").write_text(block.code)
        _FILES[block.schema](tmp_path / "file.yaml")
        return
    assert block.schema in schemas, f"the OpenAPI document has no schema {block.schema}"
    checked = Draft202012Validator({"$ref": f"#/components/schemas/{block.schema}", "components": {"schemas": schemas}})
    assert _errors(checked.iter_errors(content)) == []
    assert set(content) - {"..."} <= set(schemas[block.schema]["properties"])


def _errors(errors: Iterable[ValidationError]) -> list[str]:
    """Messages, without what comes from the parts that the page leaves out."""
    return [error.message for error in errors if not _comes_from_what_is_left_out(error)]


def _comes_from_what_is_left_out(error: ValidationError) -> bool:
    if error.instance == "..." or (isinstance(error.instance, dict) and "..." in error.instance):
        return True
    members = defaultdict(list)  # of a union: the errors of each member
    for one in error.context or ():
        members[one.schema_path[0]].append(one)
    return any(all(map(_comes_from_what_is_left_out, member)) for member in members.values())


_FILES: dict[str, Callable[[Path], object]] = {
    "cell file": read_cell_file,
    "mateformer recipe": MateformerRecipe.load,
    "radio of a recipe": read_radio,
}


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The schemas of the OpenAPI document by name."""
    app: FastAPI = create_app(Settings(database_directory=tmp_path_factory.mktemp("database")))
    described: dict[str, Any] = app.openapi()["components"]["schemas"]
    return described
