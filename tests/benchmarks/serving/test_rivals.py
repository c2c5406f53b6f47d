from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import pytest

from benchmarks.serving import rivals
from benchmarks.serving.cells import street, write_references
from benchmarks.serving.full_graph import MEDIA_TYPE, FullGraph
from benchmarks.serving.inprocess import rows_of_references
from benchmarks.serving.served_models import shipped
from benchmarks.serving.servers import running


@pytest.mark.skipif(not rivals.PYTHON.exists(), reason=f"no {rivals.PYTHON.parents[1]}: `make bench` makes it")
@pytest.mark.parametrize("rival", rivals.SERVERS)
def test_a_rival_that_batches_requests_answers_each_as_if_it_were_alone(rival: str, tmp_path: Path) -> None:
    references = tmp_path / "references.npz"
    write_references(*street(0), references)
    alone = FullGraph(shipped().full_graph, references, threads=1)
    rows = rows_of_references(references)
    asked = [rows[i : i + 1 + i % 3] for i in range(24)]  # one to three users a request
    command = list(rivals.commands(rival, shipped(), references).values())[3]
    with running(command) as server, httpx.Client(headers={"Content-Type": MEDIA_TYPE}, timeout=60) as client:

        def ask(users: np.ndarray) -> np.ndarray:
            answer = client.post(f"{server.url}/locate", content=users.tobytes()).raise_for_status()
            return np.frombuffer(answer.content, np.float32).reshape(-1, 2)

        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(ask, asked))
    for users, answer in zip(asked, answers, strict=True):
        assert answer == pytest.approx(alone.locate(users), abs=1e-3)
