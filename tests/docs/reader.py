"""A reader who follows a page: saves its files and runs its blocks, in order, in a folder of the page's own."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Block

_ADDRESS = "http://127.0.0.1:8080"
# What a page may use of the checkout; all else that it names must come from the page itself.
_CHECKOUT = ("benchmarks", "deploy", "docs", "examples", "models")
_PROGRAMS = ("c++", "curl", "jq", "openapi-python-client", "promtool")
_NO_RAY_TRACING = re.compile(r"ray tracing (?:on the CPU )?needs ")
_LONGEST_S = 900  # of a page: it trains a model on a busy machine

# A service that a page starts runs beside the blocks that follow. Starting another one stops the one before.
_PRELUDE = """set -euo pipefail
serve() {
  stop
  "$@" &
  SERVER=$!
  for _ in $(seq 300); do
    if curl --silent --fail --output /dev/null "$URL/health/ready"; then return; fi
    kill -0 $SERVER
    sleep 0.2
  done
  return 1
}
stop() { if [ -n "${SERVER:-}" ]; then kill -INT $SERVER; wait $SERVER || true; SERVER=; fi; }
trap stop EXIT
"""
_SERVE = re.compile(r"^((?:\w+=\S+ )*fingerpost serve\b.*?)(?: &)?$", re.MULTILINE)

# The commands of this checkout, not those that happen to be installed. `locate` and `models` ask the page's service.
_FINGERPOST = """#!/bin/sh
case "$1 $*" in
  *--url*) ;;
  locate*|models*) set -- "$@" --url "$URL" ;;
esac
exec "$PYTHON" -m fingerpost "$@"
"""
_COMMANDS = {
    "fingerpost": _FINGERPOST,
    "fingerpost-train": '#!/bin/sh\nexec "$PYTHON" -m models.cli "$@"\n',
    "python": '#!/bin/sh\nexec "$PYTHON" "$@"\n',
}


def follow(page_blocks: Sequence[Block], url: str, folder: Path, setup: str = "") -> str:
    """Runs the tested blocks of a page and returns what they print. `url` is a service with the cells of the demo.

    A page that starts a service gets a port of its own instead. Skips the test if a program is missing here.
    """
    code = "".join(block.code for block in page_blocks if block.is_run)
    for program in _PROGRAMS:
        if re.search(rf"^(?:.*[|(] *)?{re.escape(program)} ", code, re.MULTILINE) and shutil.which(program) is None:
            pytest.skip(f"no {program} here")
    port = str(_free_port()) if _SERVE.search(code) else url.rpartition(":")[2]
    _lay_out(folder)
    for name, text in _COMMANDS.items():
        command = folder / ".bin" / name
        command.parent.mkdir(exist_ok=True)
        command.write_text(text)
        command.chmod(0o755)
    script = "\n".join([_PRELUDE, setup, *(_script(block) for block in page_blocks)]).replace("8080", port)
    ran = _run(script, folder, f"http://127.0.0.1:{port}")
    if ran.returncode and _NO_RAY_TRACING.search(ran.stdout):
        pytest.skip("no ray tracing here")
    if ran.returncode:
        pytest.fail(ran.stdout, pytrace=False)
    return ran.stdout


def _script(block: Block) -> str:
    """The block as a part of the page's shell script."""
    if block.is_run and block.language == "python":
        done = f"python - <<'END_OF_BLOCK'\n{block.code}END_OF_BLOCK"
    elif block.is_run:
        done = _SERVE.sub(r"serve env \1", block.code)
    elif block.title and block.reason_not_to_test is None:
        done = f"cat > {block.title} <<'END_OF_BLOCK'\n{block.code}END_OF_BLOCK"
    else:
        return ""
    return f"echo '----- {block}'\n{done}"


def _lay_out(folder: Path) -> None:
    for name in _CHECKOUT:
        if (ROOT / name).exists():
            (folder / name).symlink_to(ROOT / name)


def _run(script: str, folder: Path, url: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {
        "PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{folder / '.bin'}{os.pathsep}{os.environ['PATH']}",
        "URL": url,
        "COLUMNS": "120",
        "FINGERPOST_CALIBRATION_SAMPLES": "40",
        "FINGERPOST_PORT": url.rpartition(":")[2],
    }
    printed = folder / ".printed"
    with printed.open("w") as output:
        process = subprocess.Popen(
            ["bash", "-c", script], cwd=folder, env=environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            status = process.wait(_LONGEST_S)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return subprocess.CompletedProcess([], status, printed.read_text())


def _free_port() -> int:
    with socket.socket() as asked:
        asked.bind(("127.0.0.1", 0))
        port: int = asked.getsockname()[1]
        return port
