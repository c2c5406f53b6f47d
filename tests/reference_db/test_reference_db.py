import pkgutil
import subprocess
import sys

import reference_db


def test_every_exported_name_is_there_and_the_list_is_sorted() -> None:
    assert all(hasattr(reference_db, name) for name in reference_db.__all__)
    assert reference_db.__all__ == sorted(reference_db.__all__)


def test_no_exported_name_is_a_modules_whichever_of_them_is_imported_first() -> None:
    modules = {module.name for module in pkgutil.iter_modules(reference_db.__path__)}
    assert not modules & set(reference_db.__all__)


def test_importing_it_brings_neither_torch_nor_the_other_packages() -> None:
    script = "import sys, reference_db; print(*{'torch', 'service', 'models'} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, check=True)
    assert result.stdout.strip() == b""
