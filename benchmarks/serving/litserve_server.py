"""The `full` graph behind LitServe: ``python -m benchmarks.serving.litserve_server PORT WORKERS BATCH TIMEOUT_S``.

A body is the bytes of `Users.to_rows`; an answer is the bytes of float32 `[b, 2]`. LitServe collects up to BATCH
requests within TIMEOUT_S. Their bodies, each with any number of users, become one inference.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import litserve
import numpy as np
from fastapi import Body, Response

from benchmarks.serving.full_graph import MEDIA_TYPE, Floats, FullGraph

# LitServe passes the annotation of `request` to FastAPI, which must not parse the body as JSON.
RawBody = Annotated[bytes, Body(media_type=MEDIA_TYPE)]


class Locate(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.graph = FullGraph.of_environment()

    def decode_request(self, request: RawBody) -> Floats:
        return np.frombuffer(request, np.float32).reshape(-1, self.graph.width)

    def batch(self, inputs: Sequence[Floats]) -> Floats:
        self.sizes = [len(rows) for rows in inputs]
        return np.concatenate(inputs)

    def predict(self, rows: Floats) -> Floats:
        return self.graph.locate(rows)

    def unbatch(self, output: Floats) -> list[Floats]:
        return np.split(output, np.cumsum(self.sizes)[:-1])

    def encode_response(self, output: Floats) -> Response:
        return Response(output.tobytes(), media_type=MEDIA_TYPE)


def main() -> None:
    port, workers, batch = map(int, sys.argv[1:4])
    api = Locate(max_batch_size=batch, batch_timeout=float(sys.argv[4]), api_path="/locate")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=workers, fast_queue=True)
    server.run("127.0.0.1", port, num_api_servers=1, generate_client_file=False, log_level="warning")


if __name__ == "__main__":
    main()
