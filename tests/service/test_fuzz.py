"""The short form of ``make fuzz``."""

from collections.abc import Iterator

import httpx
import pytest

from tests.service.fuzzing import DEADLINE_S, Fuzzed, ask, fuzzed_service, mutated_bodies, schemathesis

CASES = 400


@pytest.fixture(scope="module")
def service() -> Iterator[Fuzzed]:
    with fuzzed_service() as service:
        yield service


def test_damaged_bodies_get_problems_and_the_others_answers(service: Fuzzed) -> None:
    headers = {"Authorization": f"Bearer {service.key}"}
    with httpx.Client(base_url=service.url, headers=headers, timeout=DEADLINE_S) as client:
        statuses, complaints = ask(client, mutated_bodies(seed=1), CASES)
        assert client.get("/health/ready").status_code == 200
    assert complaints == []
    assert statuses[200] > CASES / 10
    assert statuses[400] > CASES / 3


def test_the_service_is_what_its_openapi_document_says(service: Fuzzed) -> None:
    phases = ("--phases", "examples,coverage", "--generation-deterministic")
    done = schemathesis(service, *phases, seconds=600)
    assert done.returncode == 0, done.stdout + done.stderr
