"""What is wrong with the environment variables of the service, in words for the person who set them."""

import re
from collections.abc import Iterable, Mapping
from difflib import get_close_matches

from pydantic import ValidationError

from service.settings import PREFIX, Settings

# Variables of the command line, of the deployments and of the tests.
_OTHERS = re.compile(
    "FINGERPOST_(URL|KEY|CERTIFICATE_FILE|CERTIFICATE_KEY_FILE|ADDRESS|REPLICAS|REDIS_MEMORY|CONSOLE_PICTURES|"
    "(HAPROXY|REPLICA)_[A-Z0-9_]+|"
    "SERVICE_[A-Z0-9_]+|PORT_[A-Z0-9_]+)"  # Kubernetes sets these for a Service named fingerpost
)


def describe_wrong_settings(error: ValidationError, options: Mapping[str, str]) -> str:
    """What is wrong with each setting, a line each, under the name of its variable or of the option that sets it."""
    reasons = []
    for one in error.errors(include_url=False):
        field, *rest = map(str, one["loc"]) if one["loc"] else ("",)
        name = options.get(field, PREFIX + field.upper()) if field else ""
        place = "".join(f"[{part}]" for part in rest)
        given = f" {one['input']!r}" if rest and isinstance(one["input"], str) else ""
        message = one["msg"].removeprefix("Value error, ")
        separator = " " if message.startswith("must ") else ": " if name else ""
        reasons.append(f"{name}{place}{given}{separator}{message}")
    return "\n".join(reasons)


def find_unknown_variables(environment: Iterable[str]) -> list[str]:
    """The variables FINGERPOST_* that nothing reads, each in a sentence with the setting that may be meant."""
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    unknown = sorted(
        name
        for name in environment
        if name.upper().startswith(PREFIX) and name.upper() not in known and not _OTHERS.fullmatch(name.upper())
    )
    return [_describe_unknown(name, known) for name in unknown]


def _describe_unknown(name: str, known: Iterable[str]) -> str:
    # The prefix alone would make all names alike.
    endings = sorted(one.removeprefix(PREFIX) for one in known)
    near = get_close_matches(name.upper().removeprefix(PREFIX), endings, 1, 0.7)
    return f"{name} is no setting and has no effect" + (f"; is {PREFIX}{near[0]} meant?" if near else "")
