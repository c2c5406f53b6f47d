"""What an operator's request to change a cell says beside its body: of which cell, on what conditions, who and why."""

import re
from datetime import datetime
from hashlib import sha256
from typing import NamedTuple

from starlette.requests import Request

from reference_db.manifest import RequestKey
from reference_db.update import Origin
from service.errors import FieldIncorrect
from service.updates.cells import cell_id_of
from service.updates.publisher import Conditions
from service.updates.query import Query

_KEY = re.compile(r"[ -~]{1,256}")
_LONGEST_NOTE = 4096


class ChangeRequest(NamedTuple):
    """`head` is what is asked for beside the body, as bytes; `key` the idempotency key."""

    cell_id: str
    conditions: Conditions
    author: str
    note: str
    key: str | None
    head: bytes
    dry_run: bool

    def origin(self, digest: str, now: datetime) -> Origin:
        """`digest`: the sha256 of head and body."""
        key = None if self.key is None else RequestKey(key=sha256(self.key.encode()).hexdigest(), body=digest)
        return Origin(self.author, now, self.note, key)


def read_change_request(request: Request, *more: str) -> ChangeRequest:
    """Reads path, query and headers; `more` names parameters of the query that only some requests have.

    Raises `CellNotFound`, `FieldIncorrect` or `UnknownField`.
    """
    cell_id = cell_id_of(request)
    query = Query(request, "author", "note", "force", *more)
    key = request.headers.get("idempotency-key")
    if key is not None and not _KEY.fullmatch(key):
        raise FieldIncorrect("header Idempotency-Key", "not 1 to 256 printable ASCII characters")
    return ChangeRequest(
        cell_id=cell_id,
        conditions=Conditions(_if_match(request), _if_none_match(request), query.flag("force")),
        author=query.text("author") or "",
        note=query.text("note", _LONGEST_NOTE) or "",
        key=key,
        head=f"{request.method} {request.url.path}?{request.url.query}\n".encode(),
        dry_run="dryRun" in more and query.flag("dryRun"),
    )


def _if_match(request: Request) -> str | None:
    """One version, quoted or not, or `*`. A weak or unknown tag matches nothing, as RFC 9110 has it."""
    values = request.headers.getlist("if-match")
    if not values:
        return None
    if len(values) > 1 or "," in values[0]:
        raise FieldIncorrect("header If-Match", "neither one version nor *")
    return re.sub(r'^"(.*)"$', r"\1", values[0].strip())


def _if_none_match(request: Request) -> bool:
    values = request.headers.getlist("if-none-match")
    if values not in ([], ["*"]):
        raise FieldIncorrect("header If-None-Match", "only * is understood")
    return bool(values)
