"""The `full` graph behind BentoML with adaptive batching: ``bentoml serve benchmarks.serving.bentoml_service:Locate``.

A body is the bytes of `Users.to_rows`; an answer is the bytes of float32 `[b, 2]`. BentoML learns from the requests how
long to wait for more of them. ``BENCH_BATCH`` is the largest batch, ``BENCH_LATENCY_MS`` the latency limit; BentoML
refuses requests that would wait longer with 503.
"""

import os
from typing import Annotated, Any

import bentoml
import numpy as np
from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from benchmarks.serving.full_graph import FullGraph

WIDTH = int(os.environ["BENCH_WIDTH"])


def _rows(body: bytes | np.ndarray) -> np.ndarray:
    return np.frombuffer(body, np.float32).reshape(-1, WIDTH) if isinstance(body, bytes) else body


# BentoML passes a "string" on without parsing it as JSON, and joins and splits arrays by rows.
Rows = Annotated[Any, PlainValidator(_rows), WithJsonSchema({"type": "string"})]
Positions = Annotated[Any, PlainSerializer(lambda array: array.tobytes()), WithJsonSchema({"type": "string"})]


@bentoml.service(
    workers=int(os.environ["BENCH_WORKERS"]),
    traffic={"timeout": 60},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Locate:
    def __init__(self) -> None:
        self.graph = FullGraph.of_environment()

    @bentoml.api(
        batchable=True,
        max_batch_size=int(os.environ["BENCH_BATCH"]),
        max_latency_ms=int(os.environ["BENCH_LATENCY_MS"]),
    )
    def locate(self, rows: Rows, /) -> Positions:
        return self.graph.locate(rows)
