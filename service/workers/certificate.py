"""The TLS certificate of the port: HAProxy reads one file with key and chain, and takes a renewed one while it runs."""

import asyncio
import logging
import os
from pathlib import Path

from service.web.tls import PERIOD_S, Certificate, TlsUnusable, server_context, stamps_of
from service.workers.balancer import Balancer, BalancerFailed

_log = logging.getLogger("fingerpost.tls")


class PortCertificate:
    """Keeps HAProxy's file like the files of the settings."""

    def __init__(self, certificate: Certificate, client_ca: Path | None, balancer: Balancer) -> None:
        """Writes the file. Blocking. Raises `TlsUnusable`."""
        server_context(certificate, client_ca)
        self._certificate = certificate
        self._balancer = balancer
        self._stamps = stamps_of(certificate)
        self._said: str | None = None  # what the log told last
        self._write()

    async def follow(self) -> None:
        """Looks for a renewed certificate once a second. Open connections keep the old one."""
        while True:
            await asyncio.sleep(PERIOD_S)
            try:
                await self._look()
                self._said = None
            except (BalancerFailed, TlsUnusable, OSError) as error:  # the next look tries again
                if str(error) != self._said:
                    self._said = str(error)
                    _log.warning("keeping the certificate in use: %s", error)

    async def _look(self) -> None:
        stamps = await asyncio.to_thread(stamps_of, self._certificate)
        if stamps != self._stamps:
            await asyncio.to_thread(self._write)
            await self._balancer.take_certificate()
            self._stamps = stamps
            _log.info("a new certificate is in use")

    def _write(self) -> None:
        """Raises `TlsUnusable` or `OSError`; the file then stays as it was."""
        key_file = self._certificate.key_file
        parts = [] if key_file is None else [key_file.read_bytes()]
        file = self._balancer.certificate_file
        draft = file.with_suffix(".draft")
        # The payload of a command to HAProxy ends at an empty line.
        lines = b"\n".join([*parts, self._certificate.file.read_bytes()]).splitlines()
        with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.writelines(line + b"\n" for line in lines if line.strip())
        server_context(Certificate(draft, None), None)
        draft.replace(file)
