"""The service as a process of its own."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from service.settings import Settings
from tests.redis_servers import GUARD_S


@contextmanager
def serving(settings: Settings) -> Iterator[str]:
    """Where it answers; it must stop cleanly at the end."""
    knobs = settings.model_dump(mode="json", exclude={"execution_providers"})
    environment = {f"FINGERPOST_{name.upper()}": _as_text(value) for name, value in knobs.items()}
    process = subprocess.Popen(
        [sys.executable, "-m", "fingerpost", "serve"],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()  # JSON where logs are JSON
            found = re.search(r"serving at (https?://[^\s\"]+)", line)
            assert found is not None, line
            yield found[1]
        finally:  # also after a failed test: Popen would wait for the process without end
            process.send_signal(signal.SIGINT)  # which does not wait for balancers
            try:
                status = process.wait(GUARD_S)
            except subprocess.TimeoutExpired:
                process.kill()
                raise
        assert status == 0


def _as_text(value: object) -> str:
    """The value of an environment variable."""
    if value is None:
        return "none"
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
