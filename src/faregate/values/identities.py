"""Identities: the names under which frameworks and the audit know owners.

The law: no owner has the identity of another owner.

- An owner's id is the identity, as the application's own users have it: ``alice``.
- A provider with a name puts it before the ids of its owners: ``corp:alice``.
- A credential without an owner is ``<kind>:<id>``: ``token:0189…``.

So an owner's id must not begin with the name of a provider or of a kind, and a colon.
"""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, get_args

from faregate.errors import InvalidInput
from faregate.model import Kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from faregate.model import Owner

KINDS: tuple[Kind, ...] = get_args(Kind)


class Identities:
    """Gives owners their identities.

    ``providers`` maps the ``iss`` of each issuer that has a name to this name.
    """

    def __init__(self, providers: Mapping[str, str]) -> None:
        self._providers = dict(providers)
        self._reserved = {*KINDS, *map(_folded, providers.values())}

    def reserved(self, owner_id: str) -> str | None:
        """Return the reserved name with which an owner's id begins, or None.

        Spellings that people or normalizing software (RFC 8264) take for the same are the same.
        """
        prefix, colon, _ = _folded(owner_id).partition(":")
        name = prefix.strip()
        if colon and name in self._reserved:
            return name
        return None

    def check(self, owner: Owner) -> None:
        """Raise InvalidInput for an owner whose id begins with a reserved name.

        Ids from a provider with a name are free, since that name is put before them.
        """
        if owner.id is None or owner.idp_id in self._providers:
            return

        name = self.reserved(owner.id)
        if name is not None:
            raise InvalidInput(
                f"owner.id: cannot begin with '{name}:', which is reserved for other identities"
            )

    def alias(self, kind: Kind, record_id: str, owner: Owner) -> str | None:
        """Return the identity of an owner if it differs from the owner's id, else None.

        ``kind`` and ``record_id`` are those of the record that names the owner.
        """
        if owner.id is None:
            return None

        provider = self._providers.get(owner.idp_id or "")
        if provider is not None:
            return f"{provider}:{owner.id}"

        # The id was stored before its prefix was reserved: from then on its record names the owner.
        if self.reserved(owner.id) is not None:
            return f"{kind}:{record_id}"
        return None


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


NOBODY_ELSE = Identities({})  # no provider has a name
