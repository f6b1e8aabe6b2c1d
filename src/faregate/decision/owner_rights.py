"""What the owners of tokens and shares may do now, asked of the application and remembered for a moment.

A need must pass both the credential's grants and its owner's rights. The answers are dropped with the cache of
records: whatever the change feed says about an owner counts before the next request is judged.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from inspect import iscoroutinefunction
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple

from cachetools import FIFOCache

from faregate.decision.weight import grants_weight, owner_weight
from faregate.errors import InvalidInput, StoreUnavailable
from faregate.model import AllowedScopes, Owner
from faregate.values import forks
from faregate.values.instants import parse_span
from faregate.values.scopes import as_allowed_scopes, compile_grants

if TYPE_CHECKING:
    from faregate.values.grants import Grants

Hook = Callable[[Owner], AllowedScopes | None]

_MAX_BYTES = 16 * 1024 * 1024  # of the answers that are at hand, roughly
_ANSWER = 1000  # bytes of one, beside what it grants
_NAMESAKES = 16  # owners of one id: other providers, other names


class Rights(NamedTuple):
    """What an owner may do: ``grants``, or None where nothing limits; ``gone`` closes everything of his."""

    grants: Grants | None = None
    gone: bool = False


UNLIMITED, _GONE = Rights(), Rights({}, gone=True)


class OwnerRights:
    """Asks ``hook`` what an owner may do, and keeps the answer for ``ttl`` seconds.

    Without a hook nobody is limited, nor is what is nobody's. Whatever the hook raises, and whatever it returns that
    is neither AllowedScopes nor None, is StoreUnavailable: the gate stays shut.
    """

    def __init__(self, hook: Hook | None, ttl: float) -> None:
        if hook is not None and (not callable(hook) or iscoroutinefunction(hook)):
            raise InvalidInput(
                "owner_rights: a plain function of an Owner that returns AllowedScopes or None"
            )
        self._hook = hook
        self._ttl = parse_span(ttl, "owner_rights_ttl")
        self.limits = hook is not None  # whether anybody is limited at all
        self.lock = threading.Lock()  # held for a moment, and while the process forks
        self._dropped = 0
        self._answers: FIFOCache[str, dict[Owner, tuple[Rights, float]]] = FIFOCache(
            _MAX_BYTES, _weight
        )

    def known(self, owner: Owner) -> Rights | None:
        """Return what an owner may do if that is at hand; None says nothing."""
        if self._hook is None or owner.id is None:
            return UNLIMITED
        try:
            rights, until = self._answers[owner.id][owner]
        except KeyError:
            return None
        return rights if monotonic() < until else None

    def ask(self, owner: Owner) -> Rights:
        """Return what the application says that an owner may do now."""
        if self._hook is None or owner.id is None:
            return UNLIMITED
        dropped, since = self._dropped, monotonic()
        try:
            allowed: Any = self._hook(owner)
            rights = (
                _GONE if allowed is None else Rights(compile_grants(as_allowed_scopes(allowed)))
            )
        except Exception as error:
            raise StoreUnavailable from error
        forks.look()
        with self.lock:
            # What was asked before an owner changed is not kept after it.
            if self._dropped == dropped:
                others = self._answers.get(owner.id, {})
                kept = others if len(others) < _NAMESAKES else {}
                self._answers[owner.id] = {**kept, owner: (rights, since + self._ttl)}
        return rights

    def drop(self, owner_id: str) -> None:
        """Forget what was answered about the owners of this id."""
        with self.lock:
            self._dropped += 1
            self._answers.pop(owner_id, None)

    def renew(self) -> None:
        """Make the lock anew: who held it is gone."""
        self.lock = threading.Lock()

    def clear(self) -> None:
        """Forget every answer."""
        with self.lock:
            self._dropped += 1
            self._answers.clear()


def _weight(answers: dict[Owner, tuple[Rights, float]]) -> int:
    # Those that are heavier than all may be take the place of all.
    held = [(owner, rights.grants) for owner, (rights, _) in answers.items()]
    return min(
        sum(_ANSWER + owner_weight(owner) + grants_weight(grants) for owner, grants in held),
        _MAX_BYTES,
    )
