"""The route `GET /keys`."""

from datetime import UTC, datetime

from fastapi import APIRouter, Request
from starlette.responses import Response

from fingerpost.wire_keys import KeyList, ListedKey
from service.auth.key_store import KeyStore
from service.auth.key_uses import KeyUses
from service.errors import UnknownField
from service.web.problems import problem_responses
from service.web.routes import ApiRoute

router = APIRouter(tags=["keys"], route_class=ApiRoute)


@router.get("/keys", responses=problem_responses(UnknownField), summary="List the API keys")
async def list_keys(request: Request, response: Response) -> KeyList:
    """Which keys are in force, what they allow, and when each was last used at any replica, up to ten seconds late."""
    response.headers["Cache-Control"] = "no-store"
    keys: KeyStore | None = request.app.state.keys
    uses: KeyUses | None = request.app.state.key_uses
    if keys is None or uses is None:
        return KeyList(required=False, keys=[])
    return KeyList(
        required=True,
        keys=[
            ListedKey(
                id=record.id,
                name=record.name,
                scopes=record.scopes,
                rate=record.rate,
                created_at=record.created_at,
                last_used=_as_time(uses.last(record.id)),
            )
            for record in keys.records()
        ],
        uses_since=_as_time(uses.since),
    )


def _as_time(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
