"""The view of models."""

import httpx

from tests.service.browser import Page
from tests.service.console.conftest import Opened


def test_the_models_that_serve_are_marked_as_active(opened: Opened) -> None:
    page = opened("#/models")
    page.says("#models", "mateformer")
    page.says("#models li:first-child", "active")


def test_models_that_were_refused_are_shown_with_the_reason(opened: Opened, operator: httpx.Client) -> None:
    page = shown(opened)
    models = operator.get("/models").json()
    page.answers("models", models | {"unusable": [{"folder": "next", "reason": "artifact.json is missing"}]})
    page.says("#models li:last-child", "next")
    page.says("#models li:last-child", "artifact.json is missing")


def test_replicas_that_serve_another_model_than_the_activated_one_are_shown(
    opened: Opened, operator: httpx.Client
) -> None:
    page = shown(opened)
    serving = [
        {"name": "a", "artifacts": {"mateformer": "1" * 64}},
        {"name": "b", "artifacts": {"mateformer": "2" * 64}},
        {"name": "c", "artifacts": {"mateformer": "2" * 64}, "problem": "no artifact has this digest"},
    ]
    told = {"activated": {"mateformer": "1" * 64}, "replicas": serving}
    page.answers("models", operator.get("/models").json() | told)
    page.says("#replicas", "serves another model")
    assert page.text("#replicas").splitlines()[-6:] == [
        *("b", "serves another model", "It still prepares the activated model."),
        *("c", "serves another model", "no artifact has this digest"),
    ]


def shown(opened: Opened) -> Page:
    page = opened("#/models")
    page.says("#models", "active")
    return page
