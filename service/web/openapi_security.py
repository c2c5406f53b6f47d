"""Keys and their scopes, as OpenAPI describes them."""

from service.auth.route_scopes import scope_needed
from service.web.openapi_operation import Json

_SAID = """\
A key, as `fingerpost keys add` makes it. It is good for its scopes: `locate` users, `read` about cells and models, \
`operate` on cells and get their fingerprints."""


def secured(document: Json) -> Json:
    """The document, saying of each operation which scope it needs."""
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            needed = scope_needed(method.upper(), path)
            operation["security"] = [] if needed is None else [{"key": [needed]}]
    document["components"]["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": _SAID}}
    return document
