import pkgutil
import subprocess
import sys

import reference_db


def test_every_exported_name_exists_and_the_list_is_sorted() -> None:
    assert all(hasattr(reference_db, name) for name in reference_db.__all__)
    assert reference_db.__all__ == sorted(reference_db.__all__)


def test_no_exported_name_is_hidden_by_a_submodule() -> None:
    modules = {module.name for module in pkgutil.iter_modules(reference_db.__path__)}
    assert not modules & set(reference_db.__all__)


def test_importing_it_imports_neither_torch_nor_our_other_packages() -> None:
    ours = "{'torch', 'service', 'models', 'fingerpost'}"
    script = f"import sys, reference_db.exports; print(*{ours} & sys.modules.keys())"
    result = subprocess.run([sys.executable, "-W", "error", "-c", script], capture_output=True, check=True)
    assert result.stdout.strip() == b""
