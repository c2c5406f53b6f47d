"""All settings of the service. Each is an environment variable: ``FINGERPOST_PORT=9000``."""

import os
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.setting_values import LIST, HostName, Seconds

PREFIX = "FINGERPOST_"
_PASSWORD = re.compile("//[^/]*@")


def _shipped_artifact(family: str = "mateformer") -> Path:
    package = find_spec("models")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "artifacts" / family


def _shipped_trajectory_artifact() -> Path | None:
    directory = _shipped_artifact("scadf-moe")
    return directory if directory.exists() else None


def _shipped_lwlm_artifact() -> Path | None:
    directory = _shipped_artifact("lwlm")
    return directory if directory.exists() else None


class Settings(BaseSettings):
    """Names end in their unit: ``_s`` seconds, ``_m`` metres, ``_bytes`` bytes. Others are counts or names.

    In a variable, seconds may have another unit (``12h``), a list is items between commas or JSON, and ``none`` sets
    None.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_parse_none_str="none", frozen=True, allow_inf_nan=False)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 lets the system choose one.")
    workers: int = Field(
        1,
        ge=1,
        le=256,
        description="Processes that serve the port together, each with its share of the cells and of the memory: see "
        "Many processes on one machine. More than one need HAProxy 2.6 or newer.",
    )
    log_level: str = Field(
        "info",
        pattern="(?i)^(debug|info|warning|error|critical)$",
        description="Log level of the service and of uvicorn.",
    )
    traces_endpoint: str | None = Field(
        None,
        description="OTLP/HTTP endpoint of an OpenTelemetry collector, such as http://127.0.0.1:4318/v1/traces. "
        "None: no traces. Needs the extra `otel`.",
    )
    log_format: Literal["line", "json"] = Field(
        "line", description="line: text for people. json: one JSON object a line."
    )
    access_log: bool = Field(
        False,
        description="Log each request: method, route, path without its query, status, duration in seconds, and the "
        "client's address.",
    )
    keys_file: Path | None = Field(
        None,
        description="File of API keys, written by `fingerpost keys`; read again when it changes. None: requests need "
        "no key, and the service listens on loopback addresses only.",
    )
    allowed_hosts: Annotated[list[HostName], *LIST] = Field(
        [],
        description="While no keys are required: names under which clients may reach the service, besides loopback "
        "names and FINGERPOST_HOST, such as the name of a reverse proxy. Without scheme and port.",
    )
    metrics_without_key: bool = Field(
        False,
        description="Serve /metrics without a key, for a network where only Prometheus can reach it.",
    )
    cell_series: int = Field(
        0,
        ge=0,
        le=10_000,
        description="How many cells get their own series in /metrics: the first in which a user is located. All other "
        "cells share one series. 0: no series by cell.",
    )
    tls_certificate_file: Path | None = Field(
        None,
        description="TLS certificate and chain (PEM); read again when the file changes. None: plain HTTP.",
    )
    tls_key_file: Path | None = Field(None, description="Private key (PEM), when it is not in the certificate file.")
    tls_client_ca_file: Path | None = Field(
        None,
        description="CA (PEM) that must have signed each client's certificate (mutual TLS). None: clients need none.",
    )
    drain_s: Seconds = Field(
        5.0,
        ge=0,
        le=3600,
        description="How long to keep serving after SIGTERM, while /health/ready answers 503. Set it longer than your "
        "load balancer takes to notice.",
    )
    shutdown_s: Seconds = Field(10.0, gt=0, description="How long open requests may take to finish after the drain.")

    database_directory: Path = Field(Path("var/database"), description="Directory of the reference database.")
    artifact_directory: Path = Field(
        default_factory=_shipped_artifact,
        description="Artifact directory of the Mateformer model. Default: the shipped one.",
    )
    artifacts_directory: Path | None = Field(
        None,
        description="Directory whose folders are artifacts that operators may activate. Default: the parent of "
        "FINGERPOST_ARTIFACT_DIRECTORY.",
    )
    trajectory_artifact_directory: Path | None = Field(
        default_factory=_shipped_trajectory_artifact,
        description="Artifact directory of the model for trajectories and tracks. Default: the shipped one. None: no "
        "trajectories.",
    )
    lwlm_artifact_directory: Path | None = Field(
        default_factory=_shipped_lwlm_artifact,
        description="Artifact directory of the model that measures snapshots, and that locates users in cells without "
        "fingerprints. Default: the shipped one. None: neither.",
    )

    redis_url: str | None = Field(
        None,
        description="Redis that holds the reference database instead of FINGERPOST_DATABASE_DIRECTORY: redis:// or "
        "redis+cluster://.",
    )
    follow_period_s: Seconds = Field(
        2.0, gt=0, description="How often to ask the reference database for new versions of the cells in memory."
    )
    retention_period_s: Seconds = Field(
        600.0,
        gt=0,
        description="How often to remove fingerprints older than their cell's retention, and old versions.",
    )
    history_versions: int = Field(
        100,
        ge=0,
        description="How many versions of each cell to keep, the newest, the current one among them. Older ones are "
        "removed in the same period, an hour after they were replaced at the earliest. 0: all.",
    )
    history_max_age_s: Seconds | None = Field(
        None,
        gt=0,
        description="Remove also versions among these that were replaced longer ago than this. None: keep them.",
    )
    cell_memory_bytes: int = Field(
        4 * 2**30,
        gt=0,
        description="Memory for cells, without mapped files. The least recently used cells are evicted. Cells that "
        "weighted kNN alone can locate in may take a quarter more.",
    )

    body_limit_bytes: int = Field(16 * 2**20, gt=0, description="Largest request body.")
    bodies_limit_bytes: int = Field(
        128 * 2**20,
        gt=0,
        description="Memory for the bodies of all requests that arrive or are being worked on, without the first "
        "64 KiB of each; at least FINGERPOST_BODY_LIMIT_BYTES. Larger bodies beyond it get 503.",
    )
    answers_limit_bytes: int = Field(
        128 * 2**20,
        gt=0,
        description="Memory for answers that clients have not yet read. Beyond it, the connections with the longest "
        "unread answers are closed.",
    )
    connection_limit: int = Field(
        800,
        gt=0,
        description="Most open connections. Requests on further ones get 503, except probes and scrapes of the "
        "metrics. Each connection needs a file descriptor.",
    )
    head_timeout_s: Seconds = Field(
        10.0, gt=0, description="How long a client may take to send the head of a request, and a new one to begin."
    )
    write_timeout_s: Seconds = Field(
        30.0, gt=0, description="How long a client may read nothing of its answer before its connection is closed."
    )
    body_timeout_s: Seconds = Field(30.0, gt=0, description="How long a client may take to send a request body.")
    upload_limit_bytes: int = Field(
        2 * 2**30,
        gt=0,
        description="Largest upload of fingerprints, both as sent and unpacked.",
    )
    batch_limit: int = Field(256, gt=0, description="Most users in one batch.")
    request_threads: int = Field(2, gt=0, description="Threads that decode and encode large batches.")
    waiting_limit: int = Field(128, gt=0, description="Most batches in progress or waiting. The next one gets 503.")
    queue_limit_s: Seconds = Field(
        0.25,
        gt=0,
        description="In a burst, new requests get 503 once the oldest queued request has waited this long.",
    )
    standing_queue_s: Seconds = Field(
        0.01,
        gt=0,
        description="Under lasting load, new requests get 503 once the oldest queued request has waited this long; "
        "batches twice as long.",
    )

    inference_threads: int = Field(
        default_factory=lambda: min(4, max(1, (os.cpu_count() or 1) - 1)),
        gt=0,
        description="Threads of one model run. Leave one core for the event loop; missing frames are encoded on this "
        "core too.",
    )
    inference_batch: int = Field(64, gt=0, description="Most users in one dispatch; bounds its memory.")
    frame_cache_bytes: int = Field(
        512 * 2**20,
        gt=0,
        description="Memory for frames (encoded neighbourhoods) and, a quarter of it but at most 256 MiB, for the "
        "features of their fingerprints; at least FINGERPOST_INFERENCE_BATCH frames are held.",
    )
    encode_ahead: bool = Field(
        True,
        description="While the model is idle, encode the frames of tiles next to those that users enter, and of cells "
        "that were loaded. Takes at most a fifth of one core, and an eighth of the frames: half of them as long as "
        "there is free room.",
    )
    execution_providers: Annotated[list[str], *LIST] = Field(
        ["CPUExecutionProvider"], min_length=1, description="Execution providers of ONNX Runtime, preferred first."
    )

    track_ttl_s: Seconds = Field(
        30.0,
        gt=0,
        le=3600,
        description="How long to keep the last snapshots of a user with a trackId, and the longest time between them.",
    )
    track_limit: int = Field(
        2000,
        gt=0,
        description="Most users of one API key whose last snapshots are kept; in Redis, of one key and cell. The "
        "oldest are dropped. Without keys, all clients share the limit.",
    )

    answer_ttl_s: Seconds = Field(
        0.0,
        ge=0,
        le=86_400,
        description="How long to remember the answer to a request with a requestId, so that operators can score it "
        "with a surveyed truth: personal data. 0: no answer is kept.",
    )
    answer_limit: int = Field(
        10_000,
        gt=0,
        description="Most answers of one API key that are remembered; in Redis, of one key and cell. The oldest are "
        "dropped. Without keys, all clients share the limit.",
    )

    position_margin_m: float = Field(
        50.0,
        ge=0,
        description="How far outside the area of a cell's fingerprints a coarse position may lie, in addition to four "
        "times its hAccuracy. One that lies farther out is ignored.",
    )
    confidence: float = Field(
        0.95,
        ge=0.5,
        le=0.99,
        description="Share of users that must lie within the stated accuracy, where a request names no other.",
    )
    calibration_samples: int = Field(600, gt=0, description="Fingerprints to calibrate a cell on.")
    calibration_sigmas_m: Annotated[tuple[Annotated[float, Field(gt=0, le=1e5)], ...], *LIST] = Field(
        (1.0, 3.0, 10.0),
        min_length=1,
        description="Errors of coarse positions (1 sigma on each axis) to calibrate for, besides no coarse position.",
    )
    calibration_seed: int = Field(0, ge=0, description="Random seed of a calibration.")

    console_live: bool = Field(
        False,
        description="Let operators watch where the users of a cell are located: personal data. While an operator "
        "watches, the last estimates are kept in memory; otherwise nothing is kept.",
    )

    console_outlines: Path | None = Field(
        None,
        description="GeoJSON file (WGS84) whose lines and polygons, such as streets and buildings, the console draws "
        "below each cell. None: no outlines.",
    )

    readiness_period_s: Seconds = Field(
        10.0,
        ge=0,
        description="Age of the last successful model run after which readiness runs the model again.",
    )
    readiness_timeout_s: Seconds = Field(5.0, gt=0, description="How long the model run of a readiness check may take.")

    @property
    def database(self) -> str:
        """The reference database, for people: without a password."""
        return _PASSWORD.sub("//", self.redis_url or str(self.database_directory))

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if self.tls_certificate_file is None and (self.tls_key_file or self.tls_client_ca_file):
            raise ValueError(
                "FINGERPOST_TLS_KEY_FILE and FINGERPOST_TLS_CLIENT_CA_FILE need FINGERPOST_TLS_CERTIFICATE_FILE"
            )
        return self
