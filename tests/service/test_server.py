from pathlib import Path

import httpx
import pytest

from service.server import Unguarded, check_guarded
from service.settings import Settings
from tests.service.running import tiny_request
from tests.service.serving import serving
from tests.service.tiny_service import added_key, bearing, make_tiny_settings


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_without_keys_loopback_addresses_are_served(host: str) -> None:
    check_guarded(Settings(host=host))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "", "no such host"])
def test_without_keys_no_other_address_is_served(host: str) -> None:
    with pytest.raises(Unguarded, match="fingerpost keys add"):
        check_guarded(Settings(host=host))


def test_with_keys_any_address_is_served(tmp_path: Path) -> None:
    check_guarded(Settings(host="0.0.0.0", keys_file=tmp_path / "keys.json"))


def test_a_real_server_on_all_interfaces_asks_for_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    key = added_key(file, ["locate"])
    settings = make_tiny_settings(tmp_path, host="0.0.0.0", keys_file=file)
    with serving(settings) as url, httpx.Client(base_url=url.replace("0.0.0.0", "127.0.0.1"), timeout=60) as client:
        assert client.get("/health/ready").status_code == 200
        assert client.post("/locate", json=tiny_request(1)).status_code == 401
        assert client.post("/locate", json=tiny_request(1), headers=bearing(key)).status_code == 200
