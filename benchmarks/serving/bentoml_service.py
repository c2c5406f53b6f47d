"""The `full` graph behind BentoML, batching adaptively: ``bentoml serve benchmarks.serving.bentoml_service:Locate``.

A body is the bytes of `Users.to_rows`, the answer those of float32 `[b, 2]`. The dispatcher learns from the requests
that it sees how long to wait for more of them; ``BENCH_BATCH`` is the most users it takes at once,
``BENCH_LATENCY_MS`` what it may cost a request; who would wait longer is refused with 503.
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


# "string" is what BentoML passes on without parsing it as JSON; arrays it can join and split by rows.
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
