import platform
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from service.listening import Unguarded, check_guarded
from service.settings import Settings
from tests.service.running import tiny_request
from tests.service.serving import serving
from tests.service.tiny_service import added_key, bearing, make_tiny_settings

# Allocates large arrays between small ones and frees the large ones. Prints the MiB that the process still holds.
_PROGRAM = """
import numpy as np, psutil
from service.server import give_back_large_arrays

if {given_back}:
    give_back_large_arrays()
resident = lambda: psutil.Process().memory_info().rss / 2**20
np.ones(2**24, np.uint8)  # freed at once: raises the threshold of glibc
before = resident()
large, small = zip(*((np.ones(2**23, np.uint8), np.ones(2**16, np.uint8)) for _ in range(16)))
del large
print(resident() - before)
"""


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_without_keys_loopback_addresses_are_served(host: str) -> None:
    check_guarded(Settings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "", "no such host"])
def test_without_keys_no_other_address_is_served(host: str) -> None:
    with pytest.raises(Unguarded, match="fingerpost keys add"):
        check_guarded(Settings(host=host))


def test_with_keys_any_address_is_served(tmp_path: Path) -> None:
    check_guarded(Settings(host="0.0.0.0", keys_file=tmp_path / "keys.json"))


def test_a_server_on_all_interfaces_requires_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key = added_key(file, ["locate"])
    settings = make_tiny_settings(tmp_path, host="0.0.0.0", keys_file=file)
    with serving(settings) as url, httpx.Client(base_url=url.replace("0.0.0.0", "127.0.0.1"), timeout=60) as client:
        assert client.get("/health/ready").status_code == 200
        assert client.post("/locate", json=tiny_request(1)).status_code == 401
        assert client.post("/locate", json=tiny_request(1), headers=bearing(key)).status_code == 200


def _left(given_back: bool) -> float:
    program = _PROGRAM.format(given_back=given_back)
    return float(subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps large arrays")
def test_freed_large_arrays_return_to_the_system() -> None:
    assert _left(given_back=False) > 64  # of 128: without the setting the memory stays
    assert _left(given_back=True) < 16
