"""Errors that the command line reports in one line instead of a traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import ValidationError
from yaml import YAMLError

from models.artifact import ArtifactError


class TrainerError(Exception):
    """A mistake in the input or a limit of the data. The message is written for the person at the terminal."""


@contextmanager
def exit_in_one_line() -> Iterator[None]:
    """Ends the program with one line on standard error for the errors that a user can cause."""
    try:
        yield
    except (TrainerError, ArtifactError, FileNotFoundError) as error:
        raise SystemExit(f"fingerpost-train: {error}") from error
    except ValidationError as error:  # of a recipe or an experiment
        wrong = (f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors())
        raise SystemExit(f"fingerpost-train: {error.title}: {'; '.join(wrong)}") from error
    except YAMLError as error:
        raise SystemExit(f"fingerpost-train: not YAML: {' '.join(str(error).split())}") from error
