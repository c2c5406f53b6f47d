from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings


def test_every_setting_has_a_description() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_environment_variables_set_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINGERPOST_DATABASE_DIRECTORY", "/somewhere")
    monkeypatch.setenv("FINGERPOST_CALIBRATION_SIGMAS_M", "[2, 4]")
    settings = Settings()
    assert settings.database_directory == Path("/somewhere")
    assert settings.calibration_sigmas_m == (2.0, 4.0)


def test_value_out_of_range_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINGERPOST_CONFIDENCE", "1")
    with pytest.raises(ValidationError):
        Settings()


def test_default_artifact_is_the_shipped_one(artifact_directory: Path) -> None:
    assert Settings().artifact_directory == artifact_directory
