"""Real handshakes with a real server process; the certificates are made here."""

import json
import socket
import ssl
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trustme
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from pydantic import ValidationError
from typer.testing import CliRunner

from fingerpost import Client, NoAnswer, build_locate_request
from service.commands.cli import app
from service.settings import Settings
from service.web.tls import Certificate, TlsUnusable, server_context
from tests.service.running import tiny_request
from tests.service.serving import serving
from tests.service.tiny_cell import positive_csi
from tests.service.tiny_service import added_key, bearing, make_tiny_settings

DEADLINE_S = 60.0


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def stranger() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def folder(authority: trustme.CA, stranger: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`server.pem`, `server.key`, `client.pem` with its key within, `ca.pem`, and a client's of another CA."""
    folder = tmp_path_factory.mktemp("tls")
    _certify(authority, folder)
    authority.issue_cert("client@example.org").private_key_and_cert_chain_pem.write_to_path(str(folder / "client.pem"))
    stranger.issue_cert("client@example.org").private_key_and_cert_chain_pem.write_to_path(str(folder / "strange.pem"))
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    return folder


def _certify(authority: trustme.CA, folder: Path) -> None:
    """Gives the server a new certificate, as those do who renew them: the files are there one after the other."""
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.private_key_pem.write_to_path(str(folder / "server.key"))
    issued.cert_chain_pems[0].write_to_path(str(folder / "server.pem"))


@pytest.fixture(scope="module")
def key_file(folder: Path) -> Path:
    return folder / "keys.json"


@pytest.fixture(scope="module")
def key(key_file: Path) -> str:
    return added_key(key_file, ["locate"])


@pytest.fixture(scope="module")
def mutual_url(folder: Path, key_file: Path, key: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    settings = make_tiny_settings(
        tmp_path_factory.mktemp("mutual"),
        keys_file=key_file,
        tls_certificate_file=folder / "server.pem",
        tls_key_file=folder / "server.key",
        tls_client_ca_file=folder / "ca.pem",
    )
    with serving(settings) as url:
        yield url


def _trusting(folder: Path, client: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    if client is not None:
        context.load_cert_chain(folder / client)
    return context


def _serial_of(url: str, context: ssl.SSLContext) -> str:
    address = httpx.URL(url)
    with (
        socket.create_connection((address.host, address.port or 443), timeout=DEADLINE_S) as plain,
        context.wrap_socket(plain, server_hostname=address.host) as secure,
    ):
        certificate = secure.getpeercert()
        assert certificate is not None
        return str(certificate["serialNumber"])


def test_users_are_located_under_tls(folder: Path, tmp_path: Path) -> None:
    settings = make_tiny_settings(
        tmp_path, tls_certificate_file=folder / "server.pem", tls_key_file=folder / "server.key"
    )
    with serving(settings) as url:
        assert url.startswith("https://127.0.0.1:")
        with Client(url, verify=_trusting(folder)) as client:
            estimate = client.locate("c", positive_csi(1)[0])
            assert estimate.local_location_estimate.local_origin.coordinate_id == "c"
        with Client(url, tries=1) as client, pytest.raises(NoAnswer, match="CERTIFICATE_VERIFY_FAILED"):
            client.locate("c", positive_csi(1)[0])
        with pytest.raises(httpx.TransportError):
            httpx.get(f"{url.replace('https', 'http')}/health/live", timeout=DEADLINE_S)


def test_only_clients_of_the_ca_come_in_and_they_need_a_key_too(mutual_url: str, folder: Path, key: str) -> None:
    with httpx.Client(base_url=mutual_url, verify=_trusting(folder, "client.pem"), timeout=DEADLINE_S) as client:
        assert client.get("/health/ready").status_code == 200
        assert client.post("/locate", json=tiny_request(1)).status_code == 401
        assert client.post("/locate", json=tiny_request(1), headers=bearing(key)).status_code == 200
    for client_file in (None, "strange.pem"):
        with (
            httpx.Client(base_url=mutual_url, verify=_trusting(folder, client_file), timeout=DEADLINE_S) as client,
            pytest.raises(httpx.TransportError),
        ):
            client.get("/health/live")


def test_nothing_older_than_tls_1_2(mutual_url: str, folder: Path) -> None:
    context = _trusting(folder, "client.pem")
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises((ssl.SSLError, OSError)):
        _serial_of(mutual_url, context)
    for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
        context = _trusting(folder, "client.pem")
        context.minimum_version = context.maximum_version = version
        assert _serial_of(mutual_url, context)


def test_a_renewed_certificate_is_used_without_a_restart(mutual_url: str, folder: Path, authority: trustme.CA) -> None:
    context, deadline = _trusting(folder, "client.pem"), time.monotonic() + DEADLINE_S
    before = _serial_of(mutual_url, context)
    with httpx.Client(base_url=mutual_url, verify=context, timeout=DEADLINE_S) as client:
        assert client.get("/health/live").status_code == 200
        _certify(authority, folder)
        while _serial_of(mutual_url, context) == before:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert client.get("/health/live").status_code == 200


def test_the_command_line_proves_itself_by_files_that_the_environment_names(
    mutual_url: str, folder: Path, key: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = tmp_path / "user.json"
    users.write_text(json.dumps(tiny_request(1)))
    command = ["locate", str(users), "--url", mutual_url]
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
    assert CliRunner().invoke(app, command).exit_code == 1
    monkeypatch.setenv("FINGERPOST_CERTIFICATE_FILE", str(folder / "client.pem"))
    refused = CliRunner().invoke(app, command)
    assert (refused.exit_code, "KEY_MISSING" in refused.output) == (1, True)
    monkeypatch.setenv("FINGERPOST_KEY", key)
    located = CliRunner().invoke(app, command)
    assert located.exit_code == 0, located.output
    listed = CliRunner().invoke(app, ["cells", "list", "--url", mutual_url])
    assert "SCOPE_MISSING" in listed.output
    monkeypatch.setenv("FINGERPOST_CERTIFICATE_FILE", str(folder / "nowhere.pem"))
    assert "FINGERPOST_CERTIFICATE_FILE" in CliRunner().invoke(app, command).output


def test_files_that_do_not_fit_stop_the_start(folder: Path, tmp_path: Path) -> None:
    whole = Certificate(folder / "server.pem", folder / "server.key")
    server_context(whole, folder / "ca.pem")
    locked = tmp_path / "locked.key"
    private_key = load_pem_private_key((folder / "server.key").read_bytes(), None)
    locked.write_bytes(private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    nonsense = tmp_path / "nonsense.pem"
    nonsense.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    wrong = [
        (whole._replace(file=tmp_path / "nowhere.pem"), None),
        (whole._replace(file=nonsense), None),
        (whole._replace(key_file=None), None),
        (whole._replace(file=folder / "client.pem"), None),
        (whole._replace(key_file=locked), None),
        (whole, tmp_path / "nowhere.pem"),
        (whole, nonsense),
    ]
    for certificate, client_ca in wrong:
        with pytest.raises(TlsUnusable, match=r"\.pem"):
            server_context(certificate, client_ca)


@pytest.mark.parametrize("name", ["tls_key_file", "tls_client_ca_file"])
def test_a_setting_of_tls_alone_is_no_plain_http(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="FINGERPOST_TLS_CERTIFICATE_FILE"):
        Settings(**{name: tmp_path / "file.pem"})


def test_a_batch_under_mutual_tls(mutual_url: str, folder: Path, key: str) -> None:
    users = [build_locate_request("c", csi) for csi in positive_csi(3)]
    with Client(mutual_url, key, verify=_trusting(folder, "client.pem")) as client:
        assert len(client.locate_batch(users)) == 3
