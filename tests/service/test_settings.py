from pathlib import Path

import pytest
from pydantic import ValidationError

from service.settings import Settings
from service.wrong_settings import describe_wrong_settings, find_unknown_variables


def test_every_setting_has_a_description() -> None:
    assert all(field.description for field in Settings.model_fields.values())


def test_environment_variables_set_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINGERPOST_DATABASE_DIRECTORY", "/somewhere")
    monkeypatch.setenv("FINGERPOST_CALIBRATION_SIGMAS_M", "[2, 4]")
    settings = Settings()
    assert settings.database_directory == Path("/somewhere")
    assert settings.calibration_sigmas_m == (2.0, 4.0)


@pytest.mark.parametrize("value", ["2,4", " 2 , 4.0,", "[2, 4]"])
def test_a_list_is_items_between_commas_or_json(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("FINGERPOST_CALIBRATION_SIGMAS_M", value)
    monkeypatch.setenv("FINGERPOST_EXECUTION_PROVIDERS", "CUDAExecutionProvider,CPUExecutionProvider")
    settings = Settings()
    assert settings.calibration_sigmas_m == (2.0, 4.0)
    assert settings.execution_providers == ["CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("30d", 2_592_000),
        ("12h", 43_200),
        ("1h30m", 5400),
        ("250ms", 0.25),
        ("90", 90),
        ("1e3", 1000),
        ("P1DT12H", 129_600),
    ],
)
def test_a_time_is_a_duration_or_seconds(monkeypatch: pytest.MonkeyPatch, value: str, seconds: float) -> None:
    monkeypatch.setenv("FINGERPOST_HISTORY_MAX_AGE_S", value)
    assert Settings().history_max_age_s == pytest.approx(seconds)


def test_every_wrong_variable_has_its_line(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("PORT", "http"), ("DRAIN_S", "soon"), ("LOG_FORMAT", "yaml")):
        monkeypatch.setenv(f"FINGERPOST_{name}", value)
    with pytest.raises(ValidationError) as refused:
        Settings()
    lines = describe_wrong_settings(refused.value, {}).splitlines()
    assert sorted(line.split(":")[0].split()[0] for line in lines) == [
        "FINGERPOST_DRAIN_S",
        "FINGERPOST_LOG_FORMAT",
        "FINGERPOST_PORT",
    ]


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
        (
            "ALLOWED_HOSTS",
            '["a.example"',
            ' must be items between commas, such as a,b, or a JSON list, such as ["a", "b"]',
        ),
        ("ALLOWED_HOSTS", '"a.example"', """[0] '"a.example"' must be a name without scheme, port and path"""),
        ("CALIBRATION_SIGMAS_M", "1,near", "[1] 'near': Input should be a valid number"),
        ("CALIBRATION_SIGMAS_M", "", ": Tuple should have at least 1 item"),
        ("DRAIN_S", "abc", " must be a duration such as 30d, 12h, 90s or 250ms; a number is seconds"),
        ("DRAIN_S", "2h", ": Input should be less than or equal to 3600"),
        ("HISTORY_MAX_AGE_S", "-1", ": Input should be greater than 0"),
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


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("CALIBRATION_SIGMAS_M", value) for value in ("nan", "-1", "inf", "0")),
        *((name, "inf") for name in ("POSITION_MARGIN_M", "SHUTDOWN_S", "HISTORY_MAX_AGE_S")),
        *(("HISTORY_MAX_AGE_S", value) for value in ("1e309", "1e300", "nan", "P1M")),
        ("EXECUTION_PROVIDERS", ""),
    ],
)
def test_a_number_without_meaning_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"FINGERPOST_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        Settings()
