"""Who a request comes from, and what it may do: the last step of SPEC's seven, judged against grants."""

from __future__ import annotations

from typing import Any

import msgspec

from faregate.decision.compiled import CompiledCredential  # noqa: TC001  msgspec reads the annotation
from faregate.errors import Denied, InvalidInput
from faregate.model import Org, Owner  # noqa: TC001  msgspec and users read the annotations
from faregate.values.grants import ANY, Grants, Held, Resources, met, missing_scopes, reached_by
from faregate.values.names import abbreviated
from faregate.values.needs import Need, check_needs, describe


class Principal(msgspec.Struct, frozen=True, eq=False, gc=False):
    """What a verified credential stands for in this request: who, from where, with which grants.

    Made by the gate alone. ``address`` is where the request came from, None where that is not known. ``rights`` are
    what the owner may do now, where the application says so: a need must pass both.
    """

    compiled: CompiledCredential
    address: str | None = None
    rights: Grants | None = None

    @property
    def kind(self) -> str:
        """What it stands for: ``token``, ``access``, ``share``, ``jwt``, or ``session`` of the application itself."""
        return self.compiled.kind

    @property
    def id(self) -> str:
        """The id of the record behind the credential; of a JWT its ``sub``, which is one of its issuer's."""
        return str(self.compiled.owner.id) if self.compiled.kind == "jwt" else self.compiled.id

    @property
    def owner(self) -> Owner | None:
        """The token's owner, whose ``id`` is None where it is nobody's; None for a share."""
        return None if self.compiled.kind == "share" else self.compiled.owner

    @property
    def org(self) -> Org | None:
        """The token's organization, whose ``id`` is None where it has none; None for a share."""
        return None if self.compiled.kind == "share" else self.compiled.org

    @property
    def shared_by(self) -> Owner | None:
        """The owner of whoever made the share; None for a token. Who holds a link is not who made it."""
        return self.compiled.shared_by

    @property
    def identity(self) -> str:
        """One name for frameworks: the owner's id, after its provider's name if that has one, else ``<kind>:<id>``."""
        return self.compiled.identity

    @property
    def display_name(self) -> str:
        """The owner's name for people to read, else the identity."""
        return self.compiled.owner.name or self.identity

    @property
    def is_authenticated(self) -> bool:
        """True, as frameworks ask it of a user: a principal exists only behind a verified credential."""
        return True

    def require(self, need: Need, *more: Need, on: object = None) -> None:
        """Return if all needs are met, on the object ``on`` (any value, compared as text); else raise Denied.

        Without ``on`` only a grant for any resource meets a need. The reason is ``insufficient_scope``
        (RFC 6750 section 3.1), or ``object_not_shared`` where a share has the scope but not the object.
        InvalidInput if a need is not one.
        """
        wanted = on if on is None or type(on) is str else resource_text(on)
        if self.rights is None:
            granted = self.compiled.granted
            try:
                # What is remembered was checked.
                if need in granted.scopes:
                    if not more or granted.scopes.issuperset(more):
                        return
                elif not more and wanted in granted.reached.get(need, ()):
                    return
            except TypeError:  # a value that cannot be looked up is no need, as is said below
                pass

        needs = check_needs((need, *more))
        unmet = [one for one in needs if not self._met(one, wanted)]
        if unmet:
            raise self._refusal(tuple(unmet), wanted)

    def require_all(self, needs: tuple[Need, ...], on: object = None) -> None:
        """Do what :meth:`require` does, for guards: their needs, if any, were checked before, and are in a tuple."""
        if on is None and self.rights is None and self.compiled.granted.scopes.issuperset(needs):
            return
        if needs:
            self.require(*needs, on=on)

    def allows(self, need: Need, *more: Need, on: object = None) -> bool:
        """Tell whether :meth:`require` would return."""
        needs = check_needs((need, *more))
        wanted = resource_text(on)
        return all(self._met(one, wanted) for one in needs)

    def allowed_objects(self, need: Need) -> Resources:
        """Return the objects on which ``need`` is met: ``ANY``, or a set, empty where it is not covered."""
        (checked,) = check_needs((need,))
        return ANY if self.compiled.root else reached_by(self._held, checked)

    def __repr__(self) -> str:
        return f"Principal({self.compiled.kind}:{self.compiled.id})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("kind", self.compiled.kind), ("id", self.compiled.id)]

    @property
    def _held(self) -> Held:
        return (
            (self.compiled.grants,) if self.rights is None else (self.compiled.grants, self.rights)
        )

    def _met(self, need: Need, on: str | None) -> bool:
        if self.rights is None and on in self.compiled.granted.reach(need):
            return True
        return self.compiled.root or met(self._held, need, on)

    def _refusal(self, unmet: tuple[Need, ...], on: str | None) -> Denied:
        if self.compiled.kind == "share":
            # What the share grants on another object is no scope that is missing.
            lacked = tuple(need for need in unmet if not reached_by(self._held, need))
            if not lacked:
                return Denied("object_not_shared", record_id=self.compiled.id, address=self.address)
            unmet = lacked
        words = abbreviated([*map(describe, unmet)]) + ("" if on is None else f" on {on!r}")
        return Denied(
            "insufficient_scope",
            f"The credential does not grant {words}.",
            scope=missing_scopes(self._held, unmet, on),
            record_id=self.compiled.id,
            address=self.address,
        )


class PathParameter(msgspec.Struct, frozen=True):
    """The value of a route's parameter, filled in by an adapter; made by :func:`path`."""

    name: str


def path(name: str) -> PathParameter:
    """Return, for ``on=`` of an adapter's ``requires``, the value of the route's parameter ``name``."""
    if not isinstance(name, str) or not name:
        raise InvalidInput("path: expected the name of a route's parameter")
    return PathParameter(name)


def resource_text(on: object) -> str | None:
    """Return ``on=`` as the text that is compared; InvalidInput for a parameter that no adapter filled in."""
    if isinstance(on, PathParameter):
        raise InvalidInput(
            f"on=path({on.name!r}): only requires() of an adapter knows the route; pass the value"
        )
    return None if on is None else str(on)
