"""All settings of the service. Each is an environment variable: ``FINGERPOST_PORT=9000``."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib.util import find_spec
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

_PREFIX = "FINGERPOST_"
# Variables of the command line, of the deployments and of the tests.
_OTHERS = re.compile(
    "FINGERPOST_(URL|KEY|CERTIFICATE_FILE|CERTIFICATE_KEY_FILE|ADDRESS|REPLICAS|REDIS_MEMORY|CONSOLE_PICTURES|"
    "(HAPROXY|REPLICA)_[A-Z0-9_]+|"
    "SERVICE_[A-Z0-9_]+|PORT_[A-Z0-9_]+)"  # Kubernetes sets these for a Service named fingerpost
)
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*")


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


def _read_json_list(value: Any) -> Any:
    """Reads the value of an environment variable. Raises `ValueError` with an example made from the value."""
    if not isinstance(value, str):
        return value
    try:
        found = json.loads(value)
    except ValueError:
        found = None
    if not isinstance(found, list):
        raise ValueError(f"must be a JSON list, such as {json.dumps(_guess_items(value))}")
    return found


def _guess_items(value: str) -> list[str] | list[float]:
    items = [text for item in value.strip(" []()").split(",") if (text := item.strip(" \"'"))]
    try:
        return [float(item) for item in items]
    except ValueError:
        return items


def _check_host(name: str) -> str:
    """Raises `ValueError` unless a `Host` header can have this name before its port."""
    try:
        ip_address(name)
    except ValueError:
        if not _HOST_NAME.fullmatch(name):
            raise ValueError("must be a name without scheme, port and path, such as fingerpost.example") from None
    return name


_JsonList = (NoDecode, BeforeValidator(_read_json_list))


class Settings(BaseSettings):
    """Names end in their unit: ``_s`` seconds, ``_m`` metres, ``_bytes`` bytes. Others are counts or names.

    ``none`` in a variable sets None.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_parse_none_str="none", frozen=True)

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on; 0 lets the system choose one.")
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
    allowed_hosts: Annotated[list[Annotated[str, AfterValidator(_check_host)]], *_JsonList] = Field(
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
    drain_s: float = Field(
        5.0,
        ge=0,
        le=3600,
        description="How long to keep serving after SIGTERM, while /health/ready answers 503. Set it longer than your "
        "load balancer takes to notice.",
    )
    shutdown_s: float = Field(10.0, gt=0, description="How long open requests may take to finish after the drain.")

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
    follow_period_s: float = Field(
        2.0, gt=0, description="How often to ask the reference database for new versions of the cells in memory."
    )
    retention_period_s: float = Field(
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
    history_max_age_s: float | None = Field(
        None,
        gt=0,
        description="Remove also versions among these that were replaced longer ago than this. None: keep them.",
    )
    cell_memory_bytes: int = Field(
        4 * 2**30,
        gt=0,
        description="Memory for cells, without mapped files. The least recently used cells are evicted.",
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
    head_timeout_s: float = Field(
        10.0, gt=0, description="How long a client may take to send the head of a request, and a new one to begin."
    )
    write_timeout_s: float = Field(
        30.0, gt=0, description="How long a client may read nothing of its answer before its connection is closed."
    )
    body_timeout_s: float = Field(30.0, gt=0, description="How long a client may take to send a request body.")
    upload_limit_bytes: int = Field(
        2 * 2**30,
        gt=0,
        description="Largest upload of fingerprints, both as sent and unpacked.",
    )
    batch_limit: int = Field(256, gt=0, description="Most users in one batch.")
    request_threads: int = Field(2, gt=0, description="Threads that decode and encode large batches.")
    waiting_limit: int = Field(128, gt=0, description="Most batches in progress or waiting. The next one gets 503.")
    queue_limit_s: float = Field(
        0.25,
        gt=0,
        description="In a burst, new requests get 503 once the oldest queued request has waited this long.",
    )
    standing_queue_s: float = Field(
        0.01,
        gt=0,
        description="Under lasting load, new requests get 503 once the oldest queued request has waited this long; "
        "batches twice as long.",
    )

    inference_threads: int = Field(
        default_factory=lambda: min(4, max(1, (os.cpu_count() or 1) - 1)),
        gt=0,
        description="Threads of one model run. Leave one core for the event loop.",
    )
    inference_batch: int = Field(64, gt=0, description="Most users in one dispatch; bounds its memory.")
    frame_cache_bytes: int = Field(
        512 * 2**20,
        gt=0,
        description="Memory for frames (encoded neighbourhoods); at least FINGERPOST_INFERENCE_BATCH frames are held.",
    )
    execution_providers: Annotated[list[str], *_JsonList] = Field(
        ["CPUExecutionProvider"], description="Execution providers of ONNX Runtime, preferred first."
    )

    track_ttl_s: float = Field(
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

    position_margin_m: float = Field(
        50.0,
        ge=0,
        description="How far outside the area of a cell's fingerprints a coarse position may lie, in addition to four "
        "times its hAccuracy. One that lies farther out is ignored.",
    )
    confidence: float = Field(0.95, gt=0, lt=1, description="Share of users that must lie within the stated accuracy.")
    calibration_samples: int = Field(300, gt=0, description="Fingerprints to calibrate a cell on.")
    calibration_sigmas_m: Annotated[tuple[float, ...], *_JsonList] = Field(
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

    readiness_period_s: float = Field(
        10.0,
        ge=0,
        description="Age of the last successful model run after which readiness runs the model again.",
    )
    readiness_timeout_s: float = Field(5.0, gt=0, description="How long the model run of a readiness check may take.")

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if self.tls_certificate_file is None and (self.tls_key_file or self.tls_client_ca_file):
            raise ValueError(
                "FINGERPOST_TLS_KEY_FILE and FINGERPOST_TLS_CLIENT_CA_FILE need FINGERPOST_TLS_CERTIFICATE_FILE"
            )
        return self


def describe_wrong_settings(error: ValidationError, options: Mapping[str, str]) -> str:
    """What is wrong with each setting, under the name of its variable, or of the option in `options` that sets it."""
    reasons = []
    for one in error.errors(include_url=False):
        field, *rest = map(str, one["loc"]) if one["loc"] else ("",)
        name = options.get(field, _PREFIX + field.upper()) if field else ""
        place = "".join(f"[{part}]" for part in rest)
        given = f" {one['input']!r}" if rest and isinstance(one["input"], str) else ""
        message = one["msg"].removeprefix("Value error, ")
        separator = " " if message.startswith("must ") else ": " if name else ""
        reasons.append(f"{name}{place}{given}{separator}{message}")
    return "; ".join(reasons)


def find_unknown_variables(environment: Iterable[str]) -> list[str]:
    """The variables FINGERPOST_* that nothing reads, each in a sentence with the setting that may be meant."""
    known = {_PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(
        name
        for name in environment
        if name.upper().startswith(_PREFIX) and name.upper() not in known and not _OTHERS.fullmatch(name.upper())
    )
    return [_describe_unknown(name, known) for name in unknown]


def _describe_unknown(name: str, known: Iterable[str]) -> str:
    near = get_close_matches(name.upper(), sorted(known), 1, 0.8)
    return f"{name} is no setting and has no effect" + (f"; is {near[0]} meant?" if near else "")
