"""The API keys of a service as they go over the wire."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from fingerpost.wire_model import WireModel, optional


class ListedKey(WireModel):
    """An API key in force. Neither the key nor its hash."""

    id: Annotated[str, Field(description="The twelve digits after `fp_` in the key.")]
    name: str
    scopes: list[Literal["locate", "operate", "read"]]
    rate: float | None = optional("Users a second that the key allows. Absent: any number.")
    created_at: datetime
    last_used: datetime | None = optional("When a request last carried the key. Absent: no use is known.")


class KeyList(WireModel):
    """The keys in force, as the keys file has them."""

    required: Annotated[bool, Field(description="false: this service needs no keys.")]
    keys: list[ListedKey]
    uses_since: datetime | None = optional(
        "Present where the replicas cannot share the uses of keys: this replica knows its own since this time."
    )
