"""HAProxy on this machine: the program, and the configuration of many replicas with workers in their place."""

import math
import os
import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

_OLDEST = (2, 6)
_PLACES = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/local/sbin", "/usr/sbin"))
_VERSION = re.compile(r"version (\d+)\.(\d+)")
_BACKENDS = 2
_REPLICAS = re.compile(r"^    server replica-1 .*\n    server replica-2 .*\n", re.MULTILINE)
_SURPLUS = 1000  # connections over the limit that may wait for their 503
_WORKERS_A_THREAD = 8
_SERVED = 32  # requests that a worker may have in progress beside those that wait for a cell or for the model


class HaproxyMissing(Exception):
    """HAProxy is not installed, or is too old. The text is fit to show to a person."""


def find_haproxy(workers: int) -> str:
    """The path of the program. Blocking. Raises `HaproxyMissing`."""
    needed = f"{workers} workers need HAProxy {_OLDEST[0]}.{_OLDEST[1]} or newer"
    program = shutil.which("haproxy", path=_PLACES)
    if program is None:
        raise HaproxyMissing(f"{needed}, which is not installed: install the Debian package haproxy")
    said = subprocess.run([program, "-v"], capture_output=True, text=True, check=False).stdout
    found = _VERSION.search(said)
    if found is None or (int(found[1]), int(found[2])) < _OLDEST:
        raise HaproxyMissing(f"{needed}; {program} is {found[0] if found else 'of an unknown version'}")
    return program


def write_configuration(path: Path, worker_sockets: Iterable[Path]) -> None:
    """Writes the configuration of `deploy/haproxy` with a server for each worker."""
    servers = "".join(
        f'    server {worker_name(i)} "unix@{socket}" id {i}\n' for i, socket in enumerate(worker_sockets, 1)
    )
    text, found = _REPLICAS.subn(lambda _: servers, _shipped_configuration().read_text())
    assert found == _BACKENDS
    path.write_text(text)


def worker_name(number: int) -> str:
    """The name of a worker, counted from 1, in HAProxy's configuration, in its answers and in metrics."""
    return f"worker-{number}"


def limits_as_variables(connections: int, waiting: int, head_s: float, body_s: float, write_s: float) -> dict[str, str]:
    """The variables of the configuration for limits: open connections, requests that wait in a worker, and seconds."""
    times = {"HEAD_TIMEOUT": head_s, "BODY_TIMEOUT": body_s, "CLIENT_TIMEOUT": max(write_s, body_s)}
    return {
        "FINGERPOST_HAPROXY_CONNECTIONS": str(connections),
        "FINGERPOST_HAPROXY_MAXCONN": str(connections + _SURPLUS),
        "FINGERPOST_HAPROXY_IN_PROGRESS": str(waiting + _SERVED),
    } | {f"FINGERPOST_HAPROXY_{name}": f"{math.ceil(1000 * seconds)}ms" for name, seconds in times.items()}


def threads_for(workers: int) -> int:
    """Threads of HAProxy: it needs far less than the workers."""
    return -(-workers // _WORKERS_A_THREAD)


def _shipped_configuration() -> Path:
    """In an installed wheel beside this module, in a checkout in `deploy/`."""
    bundled = Path(__file__).with_name("haproxy.cfg")
    return bundled if bundled.exists() else Path(__file__).parents[2] / "deploy" / "haproxy" / "haproxy.cfg"
