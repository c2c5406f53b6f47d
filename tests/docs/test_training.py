"""The pages of the documentation that train a model run from top to bottom, with the services that they start."""

from pathlib import Path

import pytest

from tests.docs.pages import pages_to_run
from tests.docs.reader import follow

_PAGES = pages_to_run(training=True)
_NO_SERVICE = "http://127.0.0.1:1"  # a page here asks its own


@pytest.mark.parametrize("page", _PAGES)
def test_the_examples_of_a_page_run_as_they_stand(page: str, tmp_path: Path) -> None:
    assert '"cause"' not in follow(_PAGES[page], _NO_SERVICE, tmp_path)


def test_the_pages_go_from_ray_tracing_to_a_served_artifact() -> None:
    code = "".join(block.code for blocks in _PAGES.values() for block in blocks if block.is_run)
    for wanted in ("scenes trace", "export", "models activate", "fingerpost locate"):
        assert wanted in code
