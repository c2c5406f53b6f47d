from pathlib import Path

import pytest

from benchmarks.serving.generator import NoCompiler, build


@pytest.fixture(scope="session")
def generator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return build(tmp_path_factory.mktemp("generator"))
    except NoCompiler as error:
        pytest.skip(str(error))
