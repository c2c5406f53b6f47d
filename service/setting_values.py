"""How the text of an environment variable becomes the value of a setting."""

import json
import re
from ipaddress import ip_address
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator
from pydantic_settings import NoDecode

from service.durations import parse_duration

_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([A-Za-z0-9_-]*[A-Za-z0-9_])?)*")


def _read_list(value: Any) -> Any:
    """Reads the value of an environment variable: items between commas, or a JSON list. Raises `ValueError`."""
    if not isinstance(value, str):
        return value
    if not value.lstrip().startswith("["):
        return [text for item in value.split(",") if (text := item.strip())]
    try:
        return json.loads(value)
    except ValueError:
        raise ValueError('must be items between commas, such as a,b, or a JSON list, such as ["a", "b"]') from None


def _read_seconds(value: Any) -> Any:
    """Raises `ValueError` for text that is no duration."""
    return parse_duration(value) if isinstance(value, str) else value


def _check_host(name: str) -> str:
    """Raises `ValueError` unless a `Host` header can have this name before its port."""
    try:
        ip_address(name)
    except ValueError:
        if not _HOST_NAME.fullmatch(name):
            raise ValueError("must be a name without scheme, port and path, such as fingerpost.example") from None
    return name


LIST = (NoDecode, BeforeValidator(_read_list))
Seconds = Annotated[float, BeforeValidator(_read_seconds)]
HostName = Annotated[str, AfterValidator(_check_host)]
