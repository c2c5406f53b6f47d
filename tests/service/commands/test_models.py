"""``fingerpost models`` with a running service."""

from pathlib import Path

import pytest

from tests.service.commands.conftest import Fingerpost
from tests.service.replicas import running
from tests.service.tiny_artifact import write_tiny_artifact


def test_list_and_activate_models(fingerpost: Fingerpost, tmp_path: Path) -> None:
    for name, beside in (("middle", 0.0), ("beside", 0.25)):
        (tmp_path / "artifacts" / name).mkdir(parents=True)
        write_tiny_artifact(tmp_path / "artifacts" / name, beside=beside)
    with running(tmp_path / "database", tmp_path / "artifacts" / "middle", tmp_path / "log") as replica:
        url = str(replica.client.base_url)
        done = fingerpost("models", "activate", "beside", "--url", url)
        assert done.exit_code == 0, done.output
        states = {model["folder"]: model["state"] for model in replica.client.get("/models").json()["models"]}
        listed = fingerpost("models", "list", "--url", url)
        refused = fingerpost("models", "activate", "nowhere", "--url", url)
    assert states == {"beside": "active", "middle": "available", "scadf-moe": "active"}
    assert listed.exit_code == 0, listed.output
    rows = {name: line for line in listed.output.splitlines() for name in states if name in line}
    assert ["active" in rows["beside"], "available" in rows["middle"], "yes" in rows["middle"]] == [True, True, True]
    assert (refused.exit_code, "ARTIFACT_NOT_FOUND" in refused.output) == (1, True)


def test_a_narrow_terminal_does_not_wrap_folders(
    fingerpost: Fingerpost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "mateformer-of-next-year"
    (tmp_path / "artifacts" / name).mkdir(parents=True)
    write_tiny_artifact(tmp_path / "artifacts" / name)
    monkeypatch.setenv("COLUMNS", "80")
    with running(tmp_path / "database", tmp_path / "artifacts" / name, tmp_path / "log") as replica:
        assert name in fingerpost("models", "list", "--url", str(replica.client.base_url)).output
