import re

import msgspec

from service import errors
from service.errors import FieldError


def field_error(error: msgspec.ValidationError) -> FieldError:
    """Which field a schema violation is about, read out of msgspec's message."""
    message, _, path = str(error).partition(" - at `")
    pointer = _pointer(path.removesuffix("`"))
    if found := re.fullmatch(r"Object contains unknown field `(.*)`", message, re.DOTALL):
        return errors.UnknownField(f"{pointer}/{found[1]}", "unknown field")
    if found := re.fullmatch(r"Object missing required field `(.*)`", message):
        return errors.FieldMissing(f"{pointer}/{found[1]}", "required field is missing")
    if message.startswith("Invalid base64"):
        return errors.CsiNotBase64(pointer, "not base64")
    return errors.FieldIncorrect(pointer, message.replace("`", ""))


def _pointer(path: str) -> str:
    """``$.csi.shape[0]`` as the JSON pointer ``/csi/shape/0``."""
    return re.sub(r"\[(\d+|\.\.\.)\]|\.", lambda found: f"/{found[1] or ''}", path.removeprefix("$"))
