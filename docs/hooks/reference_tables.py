"""MkDocs hook: writes the reference tables from the code, so that the documentation cannot drift from it.

A page names a table by a comment on a line of its own, for example ``<!-- table: settings -->``. The build fails for
an unknown name, and for an error cause that has no advice in `error_advice.ADVICE`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from runpy import run_path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mkdocs.structure.pages import Page

# What to do about each cause. MkDocs loads a hook by its path, so that its neighbour cannot be imported by name.
ADVICE: dict[str, str] = run_path(str(Path(__file__).with_name("error_advice.py")))["ADVICE"]
_SCHEMAS = run_path(str(Path(__file__).with_name("schema_tables.py")))

_MARK = re.compile(r"^<!-- table: ([a-z-]+) -->$", re.MULTILINE)


def on_page_markdown(markdown: str, *, page: Page, **_: Any) -> str:
    """Replaces each mark by its table."""
    return _MARK.sub(lambda found: TABLES[found[1]](), markdown)


def settings_table() -> str:
    """Each setting of `service.settings`, its default and its description, in the order of the class."""
    from pydantic_core import PydanticUndefined

    from service.settings import Settings

    rows = []
    for name, field in Settings.model_fields.items():
        default = _COMPUTED.get(name) if field.default is PydanticUndefined else _shown(field.default)
        assert default is not None, f"say in reference_tables._COMPUTED how {name} gets its default"
        rows.append((f"`FINGERPOST_{name.upper()}`", default, field.description or ""))
    return _table(("Variable", "Default", "Meaning"), rows)


def causes_table() -> str:
    """Each cause that a problem may carry, with its status, its meaning and what a client should do."""
    rows = [(str(status), f"`{cause}`", meaning, ADVICE[cause]) for status, cause, meaning in sorted(causes())]
    return _table(("Status", "Cause", "Meaning", "What to do"), rows)


def causes() -> Iterator[tuple[int, str, str]]:
    """Status, cause and the first paragraph of the docstring of every error class that has a cause."""
    from service.errors import ServiceError

    for kind in _descendants(ServiceError):
        if hasattr(kind, "cause"):
            yield int(kind.status), kind.cause, _first_paragraph(kind.__doc__)


def _descendants(kind: type[Any]) -> Iterator[type[Any]]:
    for child in kind.__subclasses__():
        yield child
        yield from _descendants(child)


def metrics_table() -> str:
    """Every metric of fresh registries, with its type, its labels and its help text."""
    from service.telemetry.knn_metrics import KnnMetrics
    from service.telemetry.measure_metrics import MeasureMetrics
    from service.telemetry.metrics import Metrics
    from service.telemetry.trajectory_metrics import TrajectoryMetrics
    from service.telemetry.worker_metrics import WorkerMetrics

    metrics = Metrics(cell_series=1)
    TrajectoryMetrics(metrics)
    MeasureMetrics(metrics)
    KnnMetrics(metrics)
    rows = []
    for collector in (*metrics.registry._collector_to_names, *WorkerMetrics(1).registry._collector_to_names):
        for family in collector.describe() if hasattr(collector, "describe") else collector.collect():
            names = getattr(collector, "_labelnames", None) or getattr(family, "_labelnames", ())
            labels = ", ".join(f"`{label}`" for label in names)
            suffix = {"counter": "_total", "info": "_info"}.get(family.type, "")
            name = family.name.removesuffix(suffix) + suffix
            rows.append((f"`{name}`", family.type, labels or "-", family.documentation))
    return _table(("Metric", "Type", "Labels", "Meaning"), sorted(rows))


def commands_table() -> str:
    """Every command of ``fingerpost``, with its options."""
    return "\n\n".join(_command(path, command) for path, command in commands())


def trainer_table() -> str:
    """Every command of ``fingerpost-train``; those of a model family take its options."""
    return "\n\n".join(_command(path, command) for path, command in trainer_commands())


def commands() -> Iterator[tuple[str, Any]]:
    """Every command of ``fingerpost`` that does something, by its full name."""
    from typer.main import get_command

    from service.commands.cli import app

    yield from _commands("fingerpost", get_command(app))


def trainer_commands() -> Iterator[tuple[str, Any]]:
    """Every command of ``fingerpost-train``, by its full name."""
    from typer.main import get_command

    from models.cli import app

    yield from _commands("fingerpost-train", get_command(app))


def _commands(path: str, command: Any) -> Iterator[tuple[str, Any]]:
    if hasattr(command, "commands"):
        for name, one in command.commands.items():
            yield from _commands(f"{path} {name}", one)
    else:
        yield path, command


def _command(path: str, command: Any) -> str:
    arguments = [one for one in command.params if one.param_type_name == "argument"]
    options = [
        one for one in command.params if one.param_type_name == "option" and one.name != "help" and not one.hidden
    ]
    usage = " ".join(
        [path, *(name if one.required else f"[{name}]" for one in arguments for name in [one.name.upper()])]
    )
    described = [(f"`{one.name.upper()}`", _help_of(one)) for one in arguments]
    described += [
        (", ".join(f"`{name}`" for name in (*one.opts, *one.secondary_opts)) + _format_of(one), _help_of(one))
        for one in options
    ]
    text = f"### `{usage}`\n\n{_first_paragraph(command.help)}"
    return f"{text}\n\n{_table(('Argument or option', 'Meaning'), described)}" if described else text


def _format_of(option: Any) -> str:
    """How the value is written, such as ``W,S,E,N``, if the command names it."""
    return f" `{option.metavar}`" if option.metavar else ""


def _help_of(parameter: Any) -> str:
    said = (getattr(parameter, "help", None) or "").strip()
    default = parameter.default
    if isinstance(default, (str, int, float)) and not isinstance(default, bool) and default != "":
        said += f" Default: `{default}`."
    return said


# Defaults that depend on the machine or the installation.
_COMPUTED = {
    "artifact_directory": "the shipped `mateformer`",
    "trajectory_artifact_directory": "the shipped `scadf-moe`",
    "lwlm_artifact_directory": "the shipped `lwlm`, if there is one",
    "inference_threads": "cores - 1, at least 1, at most 4",
}

_UNITS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def _shown(value: Any) -> str:
    """A default as a person types it into the environment."""
    match value:
        case None:
            return "-"
        case bool():
            return f"`{str(value).lower()}`"
        case [] | ():
            return "-"
        case list() | tuple():
            return f"`{','.join(f'{item:g}' if isinstance(item, float) else str(item) for item in value)}`"
        case int() if value >= 2**20 and value % 2**20 == 0:
            size, unit = next((size, unit) for size, unit in _UNITS if value % size == 0)
            return f"`{value}` ({value // size} {unit})"
        case float() if value.is_integer():
            return f"`{int(value)}`"
        case _:
            return f"`{value}`"


def _first_paragraph(text: str | None) -> str:
    return " ".join((text or "").strip().split("\n\n")[0].split())


def _table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


TABLES: dict[str, Callable[[], str]] = {
    "settings": settings_table,
    "causes": causes_table,
    "metrics": metrics_table,
    "commands": commands_table,
    "trainer": trainer_table,
    "wire": _SCHEMAS["wire_tables"],
    "artifact": _SCHEMAS["artifact_tables"],
}
