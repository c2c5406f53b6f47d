from pathlib import Path

import httpx

from benchmarks.serving import cells
from benchmarks.serving.asgi_servers import list_commands
from benchmarks.serving.served_models import SHIPPED
from benchmarks.serving.servers import running
from benchmarks.serving.workload import encode_request, users_at_one_place


def test_uvicorn_as_it_comes_serves_the_same_app(tmp_path: Path) -> None:
    cell, fingerprints = cells.street(0)
    cells.import_cell(cell, fingerprints, tmp_path / "database", SHIPPED)
    body = encode_request(users_at_one_place(cell, fingerprints, users=1), "msgpack")
    with running(list_commands(tmp_path / "database", SHIPPED)["uvicorn"]) as server:
        headers = {"Content-Type": "application/msgpack"}
        assert (
            httpx.post(f"{server.url}/locate", content=body, headers=headers, timeout=60).status_code == httpx.codes.OK
        )
