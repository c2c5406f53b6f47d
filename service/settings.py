"""Every knob of the service, its unit and its default. Set by environment: ``FINGERPOST_PORT=9000``."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


def _shipped_artifact(family: str = "mateformer") -> Path:
    package = find_spec("models")
    assert package is not None
    assert package.origin is not None
    return Path(package.origin).parent / "artifacts" / family


def _shipped_trajectory_artifact() -> Path | None:
    directory = _shipped_artifact("scadf-moe")
    return directory if directory.exists() else None


class Settings(BaseSettings):
    """Names end in their unit: ``_s`` seconds, ``_m`` metres, ``_bytes`` bytes; the rest count or name."""

    model_config = SettingsConfigDict(env_prefix="FINGERPOST_", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 lets the system choose one.")
    log_level: str = Field(
        "info",
        pattern="(?i)^(debug|info|warning|error|critical)$",
        description="Level of the service's and uvicorn's logs.",
    )
    traces_endpoint: str | None = Field(
        None,
        description="Where an OpenTelemetry collector takes traces by OTLP over HTTP, as in "
        "http://127.0.0.1:4318/v1/traces; needs the extra `otel`.",
    )
    log_format: Literal["line", "json"] = Field("line", description="Lines for people, or a JSON object a line.")
    access_log: bool = Field(False, description="Whether every request writes a line (path and status only).")
    keys_file: Path | None = Field(
        None,
        description="The API keys, as `fingerpost keys` writes them; read again when it changes. None: no key is asked "
        "for, and only loopback addresses are listened on.",
    )
    metrics_without_key: bool = Field(
        False, description="Whether /metrics asks for no key: where a network lets nobody but Prometheus come to it."
    )
    cell_series: int = Field(
        0,
        ge=0,
        le=10_000,
        description="How many cells have series of their own in /metrics, the first that users are located in; all "
        "others are counted together. 0: no cell is named there.",
    )
    tls_certificate_file: Path | None = Field(
        None,
        description="Certificate and chain (PEM) to serve under TLS; read again when it changes. None: plain HTTP.",
    )
    tls_key_file: Path | None = Field(None, description="Its private key (PEM), where it lies in a file of its own.")
    tls_client_ca_file: Path | None = Field(
        None, description="CA (PEM) of which whoever connects must have a certificate: mutual TLS."
    )
    drain_s: float = Field(
        5.0,
        ge=0,
        le=3600,
        description="How long to serve on after SIGTERM while /health/ready says 503, so that balancers find others: "
        "longer than their checks take to notice.",
    )
    shutdown_s: float = Field(10.0, gt=0, description="How long requests in progress may take after that.")

    database_directory: Path = Field(Path("var/database"), description="Where the reference database lies.")
    artifact_directory: Path = Field(
        default_factory=_shipped_artifact, description="The network to serve with; default the shipped one."
    )
    artifacts_directory: Path | None = Field(
        None,
        description="Whose folders are artifacts that operators may activate; default where artifact_directory lies.",
    )
    trajectory_artifact_directory: Path | None = Field(
        default_factory=_shipped_trajectory_artifact,
        description="The network for trajectories and tracks; default the shipped one, if one is.",
    )

    redis_url: str | None = Field(
        None, description="Where the reference database lies in Redis, redis:// or redis+cluster://; then no directory."
    )
    follow_period_s: float = Field(
        2.0, gt=0, description="How often to look for new versions of the cells in service, whatever is told of them."
    )
    retention_period_s: float = Field(600.0, gt=0, description="How often to look for fingerprints that are too old.")
    cell_memory_bytes: int = Field(
        4 * 2**30, gt=0, description="Memory for cells, mapped files apart; those not used for longest make room."
    )

    body_limit_bytes: int = Field(16 * 2**20, gt=0, description="Largest request body, counted while it streams.")
    body_timeout_s: float = Field(30.0, gt=0, description="How long a client may take to send its body.")
    upload_limit_bytes: int = Field(
        2 * 2**30,
        gt=0,
        description="Largest body, and largest size unpacked, of fingerprints sent to a cell.",
    )
    batch_limit: int = Field(256, gt=0, description="Most items in one batch.")
    request_threads: int = Field(2, gt=0, description="Threads that decode and encode batches.")
    waiting_limit: int = Field(128, gt=0, description="Most batches in work or waiting; the next gets a 503.")
    queue_limit_s: float = Field(
        0.25, gt=0, description="How long the first in a queue may have waited in a burst; the next user gets a 503."
    )
    standing_queue_s: float = Field(
        0.01, gt=0, description="How long under lasting load, likewise; five times as long for batches."
    )

    inference_threads: int = Field(
        default_factory=lambda: min(4, max(1, (os.cpu_count() or 1) - 1)),
        gt=0,
        description="Threads inside one inference; the event loop wants a core too.",
    )
    inference_batch: int = Field(64, gt=0, description="Most users in one inference; bounds its memory.")
    frame_cache_bytes: int = Field(
        512 * 2**20, gt=0, description="Memory for encoded neighbourhoods; never fewer of them than inference_batch."
    )
    execution_providers: list[str] = Field(
        ["CPUExecutionProvider"], description="ONNX Runtime's execution providers, preferred first."
    )

    track_ttl_s: float = Field(
        30.0,
        gt=0,
        le=3600,
        description="How long the last snapshots of a user with a trackId are kept, and may lie apart.",
    )
    track_limit: int = Field(
        2000, gt=0, description="Users whose last snapshots are kept; in Redis, of each cell. The oldest make room."
    )

    position_margin_m: float = Field(
        50.0,
        ge=0,
        description="How far outside a cell's fingerprints a coarse position may lie, beside its hAccuracy.",
    )
    confidence: float = Field(0.95, gt=0, lt=1, description="Share of users that the stated circle must hold.")
    calibration_samples: int = Field(300, gt=0, description="Fingerprints that a cell is calibrated on.")
    calibration_sigmas_m: tuple[float, ...] = Field(
        (1.0, 3.0, 10.0),
        min_length=1,
        description="Coarse position errors (1-sigma an axis) to calibrate for, beside having none.",
    )
    calibration_seed: int = Field(0, ge=0, description="Seed of the calibration's sample and of its errors.")

    console_live: bool = Field(
        False,
        description="Whether operators may watch where users of a cell are located; they are people. Nothing is kept "
        "while nobody watches, and then only the last estimates, in memory.",
    )

    readiness_period_s: float = Field(
        10.0,
        ge=0,
        description="How old the last successful inference may be before readiness asks for another.",
    )
    readiness_timeout_s: float = Field(5.0, gt=0, description="How long that inference may take.")

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if self.tls_certificate_file is None and (self.tls_key_file or self.tls_client_ca_file):
            raise ValueError("tls_key_file and tls_client_ca_file need tls_certificate_file")
        return self
