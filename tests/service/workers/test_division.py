"""What a worker gets of the machine's settings."""

import os
from pathlib import Path

import pytest

from service.settings import Settings
from service.workers.division import divide, worker_environment


def test_memory_is_divided_and_other_limits_stay() -> None:
    whole = Settings(workers=4)
    share = divide(whole)
    assert share.cell_memory_bytes == 2**30
    assert share.frame_cache_bytes == 128 * 2**20
    assert share.bodies_limit_bytes == share.answers_limit_bytes == 32 * 2**20
    assert (share.body_limit_bytes, share.track_limit) == (whole.body_limit_bytes, whole.track_limit)
    assert share.drain_s <= 1


def test_a_share_is_never_nothing() -> None:
    share = divide(Settings(workers=256, frame_cache_bytes=1, request_threads=1, cell_series=3))
    assert (share.frame_cache_bytes, share.request_threads, share.cell_series) == (1, 1, 1)


@pytest.mark.parametrize(("cores", "workers", "threads"), [(64, 16, 3), (64, 2, 4), (64, 64, 1), (2, 2, 1)])
def test_threads_of_a_run_follow_the_cores_of_a_worker(
    monkeypatch: pytest.MonkeyPatch, cores: int, workers: int, threads: int
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    assert divide(Settings(workers=workers)).inference_threads == threads
    assert divide(Settings(workers=workers, inference_threads=7)).inference_threads == 7


def test_the_environment_of_a_worker_reads_as_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    given = Settings(
        redis_url="redis://:secret@redis:6379",
        lwlm_artifact_directory=None,
        keys_file=Path("keys.json"),
        allowed_hosts=["here.example", "there.example"],
        history_max_age_s=3.5,
        console_live=True,
        workers=2,
    )
    environment = worker_environment(given, {"PATH": "/bin", "fingerpost_port": "9", "FINGERPOST_PORT": "10"})
    assert environment["PATH"] == "/bin"
    assert "fingerpost_port" not in environment
    for name in list(os.environ):
        if name.upper().startswith("FINGERPOST_"):
            monkeypatch.delenv(name)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Settings() == given
