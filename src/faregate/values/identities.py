"""The one name under which frameworks and the audit know an owner: nobody's passes for another's.

An owner's id is the name, as the application's own users have it. Where a provider has a name, that stands before the
ids of the owners whom it knows: ``corp:alice`` is not ``alice``. What belongs to no owner is ``<kind>:<id>``. So no
other id may begin like that.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING

from faregate.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping

    from faregate.model import Owner

KINDS = ("token", "refresh", "access", "share", "jwt", "session")


class Identities:
    """Gives owners their identities; ``providers`` are the names of those issuers that have one, by their ``iss``."""

    def __init__(self, providers: Mapping[str, str]) -> None:
        self._providers = dict(providers)
        self._reserved = {*KINDS, *map(_folded, providers.values())}

    def reserved(self, owner_id: str) -> str | None:
        """Return the name with which an id begins that it must not begin with, None if there is none.

        Spellings that people, or what folds them (RFC 8264), take for the same are the same.
        """
        name, colon, _ = _folded(owner_id).partition(":")
        return name.strip() if colon and name.strip() in self._reserved else None

    def check(self, owner: Owner) -> None:
        """Raise InvalidInput for an owner who would pass for somebody else."""
        if owner.id is None or owner.idp_id in self._providers:
            return
        name = self.reserved(owner.id)
        if name is not None:
            raise InvalidInput(
                f"owner.id: cannot begin with '{name}:', which is how others are called"
            )

    def alias(self, kind: str, record_id: str, owner: Owner) -> str | None:
        """Return the identity of an owner whose id alone would name somebody else, None where it would not."""
        if owner.id is None:
            return None
        provider = self._providers.get(owner.idp_id or "")
        if provider is not None:
            return f"{provider}:{owner.id}"

        # The id was written before the name was given away: its record names it from then on.
        return None if self.reserved(owner.id) is None else f"{kind}:{record_id}"


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


NOBODY_ELSE = Identities({})  # where no provider has a name
