from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings, describe_wrong_settings, find_unknown_variables


def test_every_setting_has_a_description() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_environment_variables_set_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINGERPOST_DATABASE_DIRECTORY", "/somewhere")
    monkeypatch.setenv("FINGERPOST_CALIBRATION_SIGMAS_M", "[2, 4]")
    settings = Settings()
    assert settings.database_directory == Path("/somewhere")
    assert settings.calibration_sigmas_m == (2.0, 4.0)


def test_none_in_a_variable_switches_a_model_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINGERPOST_TRAJECTORY_ARTIFACT_DIRECTORY", "none")
    monkeypatch.setenv("FINGERPOST_LWLM_ARTIFACT_DIRECTORY", "none")
    settings = Settings()
    assert (settings.trajectory_artifact_directory, settings.lwlm_artifact_directory) == (None, None)


def test_value_out_of_range_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINGERPOST_CONFIDENCE", "1")
    with pytest.raises(ValidationError):
        Settings()


def test_default_artifact_is_the_shipped_one(artifact_directory: Path) -> None:
    assert Settings().artifact_directory == artifact_directory


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ALLOWED_HOSTS", "fingerpost.example", ' must be a JSON list, such as ["fingerpost.example"]'),
        ("ALLOWED_HOSTS", "a.example, b.example", ' must be a JSON list, such as ["a.example", "b.example"]'),
        ("ALLOWED_HOSTS", '"a.example"', ' must be a JSON list, such as ["a.example"]'),
        ("EXECUTION_PROVIDERS", "CPUExecutionProvider", ' must be a JSON list, such as ["CPUExecutionProvider"]'),
        ("CALIBRATION_SIGMAS_M", "1,3", " must be a JSON list, such as [1.0, 3.0]"),
        ("DRAIN_S", "abc", ": Input should be a valid number"),
        ("PORT", "tcp://10.0.0.1:80", ": Input should be a valid integer"),
        ("ALLOWED_HOSTS", '["ok.example", "https://a.example"]', "[1] 'https://a.example' must be a name without"),
        ("ALLOWED_HOSTS", '["a.example:8080"]', "[0] 'a.example:8080' must be a name without scheme, port and path"),
        ("ALLOWED_HOSTS", '["a.example/x"]', "[0] 'a.example/x' must be a name without"),
        ("ALLOWED_HOSTS", '["*"]', "[0] '*' must be a name without"),
    ],
)
def test_a_wrong_variable_is_named_and_told_what_it_takes(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"FINGERPOST_{name}", value)
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert describe_wrong_settings(refused.value, {}).startswith(f"FINGERPOST_{name}{said}")


def test_names_of_hosts_are_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["fingerpost.example", "fingerpost", "docker_service", "10.0.0.1", "fd00::1", "xn--bcher-kva.example"]
    monkeypatch.setenv("FINGERPOST_ALLOWED_HOSTS", str(names).replace("'", '"'))
    assert Settings().allowed_hosts == names


def test_settings_that_need_each_other_are_named_as_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINGERPOST_TLS_KEY_FILE", "/key")
    with pytest.raises(ValidationError) as refused:
        Settings()
    assert "need FINGERPOST_TLS_CERTIFICATE_FILE" in describe_wrong_settings(refused.value, {})


def test_a_variable_that_nothing_reads_is_found() -> None:
    others = ["KEY", "URL", "CERTIFICATE_KEY_FILE", "REPLICAS", "REPLICA_1", "HAPROXY_BIND", "PORT_8080_TCP_ADDR"]
    known = [f"FINGERPOST_{name}" for name in ["FOLLOW_PERIOD_S", "SERVICE_HOST", *others]]
    assert find_unknown_variables([*known, "fingerpost_port", "PATH", "FINGERPOSTAGE"]) == []
    misspelt, strange = find_unknown_variables([*known, "FINGERPOST_FOLOW_PERIOD_S", "FINGERPOST_WATER"])
    assert misspelt == "FINGERPOST_FOLOW_PERIOD_S is no setting and has no effect; is FINGERPOST_FOLLOW_PERIOD_S meant?"
    assert strange == "FINGERPOST_WATER is no setting and has no effect"
