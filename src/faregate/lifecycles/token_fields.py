"""Kept while its users move."""

from faregate.decision.compiled import CompiledCredential, compile_access, compile_token
from faregate.errors import InvalidInput
from faregate.fields.field import (
    Columns as Values,
    Row as Columns,
    as_list,
    names_of,
    network_columns,
    org_columns,
    owner_columns,
    owner_of,
    read_expires_at,
)
from faregate.fields.token_fields import (
    FIELD_NAMES as TOKEN_FIELDS,
    REFRESH,
    OptionalTokenFields,
    TokenFields,
    blank_columns,
    given_columns,
    scopes_of,
    token_of,
)
from faregate.lifecycles.change_rules import *  # noqa: F403
from faregate.stores.compiled_rows import compile_access_row as access_limits
from faregate.stores.compiled_rows import compile_token_row as limits_of


def check_window(limit: object, offset: object, after: object = None) -> None:
    """Raise InvalidInput unless a list can begin at ``offset`` and hold ``limit`` records."""
    if not isinstance(limit, int) or not 1 <= limit <= 1000:
        raise InvalidInput(f"limit: 1 to {1000}")
    if not isinstance(offset, int) or not 0 <= offset < 2**63:
        raise InvalidInput("offset: 0 or more")
    if offset and after is not None:
        raise InvalidInput("offset, after: give one of them")


MAX_PAGE = 1000
