"""The examiner's process ends with the service."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.redis_servers import GUARD_S, wait_until
from tests.service.workers.running import is_alive


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_is_left_behind_by_a_service_whose_group_gets_a_signal(
    tmp_path: Path, number: signal.Signals
) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "tests.service.examining.orphan", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    ) as service:
        assert service.stdout is not None
        examiner = psutil.Process(int(service.stdout.readline()))
        assert is_alive(examiner)
        os.killpg(service.pid, number)
        try:
            service.wait(GUARD_S)
        finally:
            service.kill()
    wait_until(lambda: not is_alive(examiner), "the examiner goes on without its service")
