"""The running services of `tests.service`."""

from tests.service.conftest import anyio_backend, artifact_directory, learned_url, settings, store, url

__all__ = ["anyio_backend", "artifact_directory", "learned_url", "settings", "store", "url"]
