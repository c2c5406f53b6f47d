"""Errors that the command line reports in lines of their own instead of a traceback."""

import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from safetensors import SafetensorError

from models.artifact import ArtifactError
from models.frozen import FrozenModel

C = TypeVar("C")


class TrainerError(Exception):
    """A mistake in the input or a limit of the data. The message is written for the person at the terminal."""


class UnreadableYaml(TrainerError):
    """A file cannot be read as YAML."""


class UnknownSetting(TrainerError, TypeError):
    """A recipe names a setting of the model that the model does not have."""


@contextmanager
def exit_in_one_line() -> Iterator[None]:
    """Ends the program with a line on standard error for each fault that a user can cause."""
    try:
        yield
    except (TrainerError, ArtifactError) as error:
        raise _exit(str(error)) from error
    except ValidationError as error:  # of a recipe, an experiment or their parts
        place = "".join(f"{note}: " for note in getattr(error, "__notes__", ()))
        raise _exit("\n".join(f"{place}{line}" for line in describe_errors(error))) from error
    except SafetensorError as error:
        raise _exit(f"a file of tensors cannot be read: {error}") from error
    except OSError as error:
        name = "" if error.filename is None else f"{error.filename}: "
        raise _exit(f"{name}{error.strerror}" if error.strerror else str(error)) from error


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Notes the file that was validated in a `ValidationError`."""
    try:
        yield
    except ValidationError as error:
        error.add_note(str(path))
        raise


def describe_errors(error: ValidationError) -> list[str]:
    """What is wrong with each field, in one line; of an unknown field, which field may be meant."""
    root = next((kind for kind in _descendants(FrozenModel) if kind.__name__ == error.title), None)
    return [_describe(one, root) for one in error.errors(include_url=False)]


def build_config(kind: type[C], settings: Mapping[str, Any]) -> C:
    """The configuration of a model, a dataclass. Raises `UnknownSetting`."""
    known = [field.name for field in fields(kind)]  # type: ignore[arg-type]
    unknown = [_suggest(f"model.{name}: no such setting", name, known) for name in settings if name not in known]
    if unknown:
        raise UnknownSetting("\n".join(unknown))
    return kind(**settings)


def read_yaml(path: Path) -> Any:
    """The content of a YAML file. Raises `UnreadableYaml`, which names the line, and `OSError`."""
    try:
        return yaml.safe_load(path.read_text())
    except UnicodeDecodeError as error:
        raise UnreadableYaml(f"{path} is not text") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        reason = getattr(error, "problem", None) or " ".join(str(error).split())
        raise UnreadableYaml(f"{path}{line}: not YAML: {reason}") from error


def _exit(message: str) -> SystemExit:
    return SystemExit("\n".join(f"fingerpost-train: {line}" for line in message.splitlines()))


def _describe(one: Mapping[str, Any], root: type[BaseModel] | None) -> str:
    name = ".".join(map(str, one["loc"]))
    if one["type"] == "extra_forbidden":
        siblings = [] if root is None else _fields_at(root, one["loc"][:-1])
        return _suggest(f"{name}: no such field", str(one["loc"][-1]), siblings)
    reason = str(one["msg"]).removeprefix("Value error, ")
    return f"{name}: {reason}" if name else reason


def _suggest(complaint: str, name: str, known: list[str]) -> str:
    near = get_close_matches(name, known, 1, 0.6)
    if near:
        return f"{complaint}; is {near[0]} meant?"
    return f"{complaint}; there are {', '.join(known)}" if known else complaint


def _fields_at(root: type[BaseModel], place: tuple[Any, ...]) -> list[str]:
    """The fields of the model at a place in another; none where the place is no model."""
    kinds = [root]
    for part in place:
        annotations = [kind.model_fields[part].annotation for kind in kinds if part in kind.model_fields]
        kinds = [found for annotation in annotations for found in _models_in(annotation)] or kinds
    return [name for kind in kinds for name in kind.model_fields]


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in typing.get_args(annotation) for found in _models_in(part)]


def _descendants(kind: type[BaseModel]) -> Iterator[type[BaseModel]]:
    for child in kind.__subclasses__():
        yield child
        yield from _descendants(child)
