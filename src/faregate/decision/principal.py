"""The caller of a request, and the last step of a verification: its needs against its grants.

A need is met only if the grants of the credential meet it and, where the application limits owners,
the rights of its owner, too. Needs that are met again and again are answered from sets, without a
walk over the grants.
"""

from __future__ import annotations

from typing import Any

import msgspec

from faregate.decision.compiled import CompiledCredential  # noqa: TC001  msgspec reads the annotation
from faregate.errors import Denied, InvalidInput
from faregate.model import Kind, Org, Owner  # noqa: TC001  msgspec and users read the annotations
from faregate.values.grants import ANY, Grants, Held, Resources, met, missing_scopes, reached_by
from faregate.values.names import abbreviated
from faregate.values.needs import Need, check_needs, describe


class Principal(msgspec.Struct, frozen=True, eq=False, gc=False):
    """The caller of this request, with a verified credential. Only the gate makes principals.

    >>> principal = gate.verify(secret)
    >>> principal.kind, principal.owner.id, principal.identity
    ('token', 'ann', 'ann')

    ``compiled`` is the credential. ``address`` is the client's address, None if it is not known.
    ``rights`` are the current rights of the owner, None without limits.
    """

    compiled: CompiledCredential
    address: str | None = None
    rights: Grants | None = None

    @property
    def kind(self) -> Kind:
        """The kind: ``token``, ``access``, ``share``, ``jwt``, or the application's ``session``."""
        return self.compiled.kind

    @property
    def id(self) -> str:
        """The id of the credential's record; for a JWT its ``sub``, an id of the issuer."""
        if self.compiled.kind == "jwt":
            return str(self.compiled.owner.id)
        return self.compiled.id

    @property
    def owner(self) -> Owner | None:
        """The token's owner, with the ``id`` None if it has none; None for a share."""
        if self.compiled.kind == "share":
            return None
        return self.compiled.owner

    @property
    def org(self) -> Org | None:
        """The token's organization, with the ``id`` None if it has none; None for a share."""
        if self.compiled.kind == "share":
            return None
        return self.compiled.org

    @property
    def shared_by(self) -> Owner | None:
        """The owner of the share's maker, not of the caller; None for a token."""
        return self.compiled.shared_by

    @property
    def identity(self) -> str:
        """The caller's name for frameworks: the owner's id, else ``<kind>:<id>``.

        The name of the identity provider comes before the owner's id, if the owner has a provider.
        """
        return self.compiled.identity

    @property
    def display_name(self) -> str:
        """The owner's display name, else the identity."""
        return self.compiled.owner.name or self.identity

    @property
    def is_authenticated(self) -> bool:
        """True, for frameworks: every principal has a verified credential."""
        return True

    def require(self, need: Need, *more: Need, on: object = None) -> None:
        """Return if all needs are met on the object ``on``; raise Denied otherwise.

        ``on`` is any value and compared as text. Without ``on`` only a grant for any resource meets
        a need.

        >>> principal.require("docs:read", on="plan")
        >>> principal.require("docs:write")
        Traceback (most recent call last):
        Denied: insufficient_scope: The credential does not grant docs:write.

        Raises Denied ``insufficient_scope`` (RFC 6750 section 3.1), or ``object_not_shared`` if a
        share has the scope but not the object. Raises InvalidInput for an invalid need.
        """
        wanted = on if on is None or type(on) is str else resource_text(on)
        if self.rights is None:
            granted = self.compiled.granted
            try:
                # These sets hold valid needs alone, so a hit needs no further check.
                if need in granted.scopes:
                    if not more or granted.scopes.issuperset(more):
                        return
                elif not more and wanted in granted.reached.get(need, ()):
                    return
            except TypeError:
                # A value without a hash is no need; check_needs raises InvalidInput for it.
                pass

        needs = check_needs((need, *more))
        unmet = [checked for checked in needs if not self._met(checked, wanted)]
        if unmet:
            raise self._refusal(tuple(unmet), wanted)

    def require_all(self, needs: tuple[Need, ...], on: object = None) -> None:
        """Return if all ``needs`` are met; raise Denied as :meth:`require` does.

        For guards: the needs were checked before. An empty tuple is always met.
        """
        if on is None and self.rights is None and self.compiled.granted.scopes.issuperset(needs):
            return
        if needs:
            self.require(*needs, on=on)

    def allows(self, need: Need, *more: Need, on: object = None) -> bool:
        """Return True if :meth:`require` would return.

        >>> principal.allows("docs:read"), principal.allows("docs:write")
        (True, False)
        """
        needs = check_needs((need, *more))
        wanted = resource_text(on)
        return all(self._met(checked, wanted) for checked in needs)

    def allowed_objects(self, need: Need) -> Resources:
        """Return the objects on which ``need`` is met: ``ANY``, or a set, which may be empty.

        >>> principal.allowed_objects("docs:read")
        ANY
        >>> gate.verify(share_secret).allowed_objects("docs:read")
        frozenset({'plan'})
        """
        (checked,) = check_needs((need,))
        if self.compiled.root:
            return ANY
        return reached_by(self._held, checked)

    def __repr__(self) -> str:
        return f"Principal({self.compiled.kind}:{self.compiled.id})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("kind", self.compiled.kind), ("id", self.compiled.id)]

    @property
    def _held(self) -> Held:
        if self.rights is None:
            return (self.compiled.grants,)
        return (self.compiled.grants, self.rights)

    def _met(self, need: Need, on: str | None) -> bool:
        if self.rights is None and on in self.compiled.granted.reach(need):
            return True
        return self.compiled.root or met(self._held, need, on)

    def _refusal(self, unmet: tuple[Need, ...], on: str | None) -> Denied:
        if self.compiled.kind == "share":
            # A scope that the share grants on another object is not missing.
            missing = tuple(need for need in unmet if not reached_by(self._held, need))
            if not missing:
                return Denied("object_not_shared", record_id=self.compiled.id, address=self.address)
            unmet = missing

        words = abbreviated([*map(describe, unmet)])
        if on is not None:
            words = f"{words} on {on!r}"
        return Denied(
            "insufficient_scope",
            f"The credential does not grant {words}.",
            scope=missing_scopes(self._held, unmet, on),
            record_id=self.compiled.id,
            address=self.address,
        )


class PathParameter(msgspec.Struct, frozen=True):
    """The name of a route's parameter, from :func:`path`. An adapter fills in the value."""

    name: str


def path(name: str) -> PathParameter:
    """Return a placeholder for the value of the route's parameter ``name``.

    For ``on=`` of an adapter's ``requires``: a route ``/docs/{doc_id}`` has ``on=path("doc_id")``.

    >>> path("doc_id")
    PathParameter(name='doc_id')

    Raises InvalidInput if ``name`` is no text, or empty.
    """
    if not isinstance(name, str) or not name:
        raise InvalidInput("path: expected the name of a route's parameter")
    return PathParameter(name)


def resource_text(on: object) -> str | None:
    """Return ``on=`` as the text that is compared with resources.

    Raises InvalidInput for a :class:`PathParameter`, which only an adapter can fill in.
    """
    if isinstance(on, PathParameter):
        raise InvalidInput(
            f"on=path({on.name!r}): only requires() of an adapter knows the route; pass the value"
        )
    if on is None:
        return None
    return str(on)
