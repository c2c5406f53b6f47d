"""The query of an operator's request. A misspelt `dryRun` must not delete."""

import re

from starlette.requests import Request

from service.errors import FieldIncorrect, UnknownField

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # what a terminal may obey; a tab and a new line are text
_FLAGS = {"true": True, "1": True, "false": False, "0": False}


class Query:
    """The parameters of a request's query, of those in `known`.

    As in 3GPP TS 29.571 problems call them "query <name>". Raises `UnknownField`, and `FieldIncorrect` for one that
    comes twice.
    """

    def __init__(self, request: Request, *known: str) -> None:
        self._given: dict[str, str] = {}
        for name, value in request.query_params.multi_items():
            if name not in known:
                raise UnknownField(f"query {name}", f"unknown, not one of {', '.join(known) or 'none'}")
            if name in self._given:
                raise FieldIncorrect(f"query {name}", "comes twice")
            self._given[name] = value

    def text(self, name: str, longest: int = 256) -> str | None:
        value = self._given.get(name)
        if value is not None and len(value) > longest:
            raise FieldIncorrect(f"query {name}", f"longer than {longest} characters")
        if value is not None and _CONTROL.search(value):
            raise FieldIncorrect(f"query {name}", "holds control characters")
        return value

    def flag(self, name: str) -> bool:
        """False where absent."""
        value = self._given.get(name, "false").lower()
        if value not in _FLAGS:
            raise FieldIncorrect(f"query {name}", "neither true nor false")
        return _FLAGS[value]

    def number(self, name: str, most: int) -> int | None:
        """A whole number from 1 to `most`."""
        value = self._given.get(name)
        if value is None:
            return None
        if not (value.isascii() and value.isdigit() and len(value) <= len(str(most)) and 1 <= int(value) <= most):
            raise FieldIncorrect(f"query {name}", f"no whole number from 1 to {most}")
        return int(value)

    def choice(self, name: str, choices: tuple[str, ...]) -> str:
        """The first where absent."""
        value = self._given.get(name, choices[0])
        if value not in choices:
            raise FieldIncorrect(f"query {name}", f"not one of {', '.join(choices)}")
        return value
