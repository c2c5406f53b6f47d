"""``fingerpost models`` with a running service."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from reference_db import DirectoryStore, Fingerprints, import_fingerprints
from service.commands import models
from tests.redis_servers import wait_until
from tests.service.commands.conftest import Fingerpost
from tests.service.replicas import running
from tests.service.tiny_artifact import write_tiny_artifact
from tests.service.tiny_cell import ORIGIN, positive_csi, tiny_cell, uneven_street


def test_list_and_activate_models(fingerpost: Fingerpost, tmp_path: Path) -> None:
    for name, beside in (("middle", 0.0), ("beside", 0.25)):
        (tmp_path / "artifacts" / name).mkdir(parents=True)
        write_tiny_artifact(tmp_path / "artifacts" / name, beside=beside)
    fill(tmp_path / "database")
    with running(
        tmp_path / "database", tmp_path / "artifacts" / "middle", tmp_path / "log", confidence=0.95
    ) as replica:
        url = str(replica.client.base_url)
        done = fingerpost("models", "activate", "beside", "--url", url)
        assert done.exit_code == 0, done.output
        assert "1 of 1 cells checked, 0 failed" in done.output
        cell_id, before, after = done.stdout.splitlines()[-1].split()
        assert cell_id == tiny_cell().cell_id
        states = {model["folder"]: model["state"] for model in replica.client.get("/models").json()["models"]}
        listed = fingerpost("models", "list", "--url", url)
        refused = fingerpost("models", "activate", "nowhere", "--url", url)
        (back,) = replica.client.post("/models/middle:activate").json()["check"]["compared"]
        assert [f"{back[name]:.2f}" for name in ("medianAfter", "medianBefore")] == [before, after]
        assert before != after
    assert states == {"beside": "active", "middle": "available"}
    assert listed.exit_code == 0, listed.output
    rows = {name: line for line in listed.output.splitlines() for name in states if name in line}
    assert ["active" in rows["beside"], "available" in rows["middle"], "yes" in rows["beside"]] == [True, True, True]
    assert "yes" not in rows["middle"]
    assert (refused.exit_code, "ARTIFACT_NOT_FOUND" in refused.output) == (1, True)


def test_activate_returns_when_all_replicas_serve_the_model_and_names_those_that_do_not(
    fingerpost: Fingerpost, tmp_path: Path
) -> None:
    database, artifacts = tmp_path / "database", tmp_path / "artifacts"
    for name, beside in (("middle", 0.0), ("beside", 0.25), ("newest", 0.1)):
        (artifacts / name).mkdir(parents=True)
        write_tiny_artifact(artifacts / name, beside=beside)
    few = tmp_path / "few"
    for name in ("middle", "beside"):
        shutil.copytree(artifacts / name, few / name)
    fill(database)
    with (
        running(database, artifacts / "middle", tmp_path / "log", confidence=0.95) as one,
        running(database, few / "middle", tmp_path / "other-log", confidence=0.95) as other,
    ):
        url = str(one.client.base_url)
        wait_until(lambda: len(one.client.get("/models").json()["replicas"]) == 2, "a replica does not report")
        done = fingerpost("models", "activate", "beside", "--url", url)
        assert done.exit_code == 0, done.output
        states = {model["folder"]: model["state"] for model in other.client.get("/models").json()["models"]}
        assert states["beside"] == "active"
        lacking = fingerpost("models", "activate", "newest", "--url", url, "--wait", "3")
    assert lacking.exit_code == 1
    assert "these replicas do not serve the model yet" in lacking.output
    assert "this replica does not have it" in lacking.output


def test_a_comparison_names_cells_without_an_answer_and_a_service_that_compares_none(
    capsys: pytest.CaptureFixture[str],
) -> None:
    compared = [{"cellId": "street", "medianBefore": 0.214}]
    models._print_check({"cells": 3, "checked": 1, "failed": [], "compared": compared})
    assert capsys.readouterr().out.splitlines()[-1].split() == ["street", "0.21", "no", "answer"]
    models._print_check({"cells": 3, "checked": 1, "failed": []})
    assert capsys.readouterr().out == "1 of 3 cells checked, 0 failed\n"


def fill(database: Path) -> None:
    """A cell that the tiny artifact serves."""
    positions = uneven_street(40, 1)
    fingerprints = Fingerprints(positive_csi(40), positions, np.zeros(40), np.full(40, 0.05, np.float32))
    import_fingerprints(DirectoryStore(database), tiny_cell(), fingerprints, {}, ORIGIN)


def test_a_narrow_terminal_does_not_wrap_folders(
    fingerpost: Fingerpost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "mateformer-of-next-year"
    (tmp_path / "artifacts" / name).mkdir(parents=True)
    write_tiny_artifact(tmp_path / "artifacts" / name)
    monkeypatch.setenv("COLUMNS", "80")
    with running(tmp_path / "database", tmp_path / "artifacts" / name, tmp_path / "log") as replica:
        assert name in fingerpost("models", "list", "--url", str(replica.client.base_url)).output
