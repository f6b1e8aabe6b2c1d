"""Kept while its users move."""

from faregate.errors import InvalidInput
from faregate.lifecycles.change_rules import *  # noqa: F403


def check_window(limit: object, offset: object, after: object = None) -> None:
    """Raise InvalidInput unless a list can begin at ``offset`` and hold ``limit`` records."""
    if not isinstance(limit, int) or not 1 <= limit <= 1000:
        raise InvalidInput(f"limit: 1 to {1000}")
    if not isinstance(offset, int) or not 0 <= offset < 2**63:
        raise InvalidInput("offset: 0 or more")
    if offset and after is not None:
        raise InvalidInput("offset, after: give one of them")


MAX_PAGE = 1000
