"""The current rights of the owners of tokens and shares, asked of the application and cached.

A need must pass both the credential's grants and its owner's rights. This module has no thread of
its own; the threads of requests call it. The law of its cache:

- ``known`` reads without a lock and never asks. ``ask`` calls the hook without a lock, so that a
  slow hook delays no other owner.
- An answer counts for ``ttl`` seconds from the moment the hook was called.
- Each ``drop`` and ``clear`` raises a counter. An answer is stored only if the counter has not
  moved since the hook was called: an answer from before a change is never stored after it.
- The answers are dropped with the cache of records, so an owner's entry in the change feed counts
  before the next request is judged.

The states of an answer::

              ask() stores it                  ttl is over
    absent -------------------->  at hand  ------------------>  expired
      ^                              |                             |  ask() replaces it
      +---- drop(), clear(), size ---+-----------------------------+

``known`` returns an answer that is at hand, and None in the other two states.
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

_MAX_BYTES = 16 * 1024 * 1024  # of all answers, roughly
_ANSWER = 1000  # bytes of an answer, beside its grants
_NAMESAKES = 16  # owners with one id: other providers, other names


class Rights(NamedTuple):
    """The rights of an owner: ``grants``, None without limits; ``gone`` closes all credentials."""

    grants: Grants | None = None
    gone: bool = False


UNLIMITED = Rights()
_GONE = Rights({}, gone=True)


class OwnerRights:
    """Asks ``hook`` for the rights of an owner, and caches the answer for ``ttl`` seconds.

    Without a hook no owner is limited. A credential without an owner is never limited. The hook
    returns AllowedScopes, or None for an owner that is gone.

    Raises InvalidInput for a hook that is no plain function, or an invalid ``ttl``.
    """

    def __init__(self, hook: Hook | None, ttl: float) -> None:
        if hook is not None and (not callable(hook) or iscoroutinefunction(hook)):
            raise InvalidInput(
                "owner_rights: a plain function of an Owner that returns AllowedScopes or None"
            )

        self._hook = hook
        self._ttl = parse_span(ttl, "owner_rights_ttl")
        # False if no owner is ever limited.
        self.limits = hook is not None
        # Held for a moment, and while the process forks.
        self.lock = threading.Lock()
        self._drops = 0
        self._answers: FIFOCache[str, dict[Owner, tuple[Rights, float]]] = FIFOCache(
            _MAX_BYTES, _weight
        )

    def known(self, owner: Owner) -> Rights | None:
        """Return the rights of an owner from the cache; None if :meth:`ask` must be called."""
        if self._hook is None or owner.id is None:
            return UNLIMITED
        try:
            rights, until = self._answers[owner.id][owner]
        except KeyError:
            return None
        return rights if monotonic() < until else None

    def ask(self, owner: Owner) -> Rights:
        """Return the rights of an owner as the application states them now.

        Raises StoreUnavailable if the hook raises, or returns neither AllowedScopes nor None: the
        gate stays shut.
        """
        if self._hook is None or owner.id is None:
            return UNLIMITED

        drops = self._drops
        since = monotonic()
        try:
            rights = _rights(self._hook(owner))
        except Exception as error:
            raise StoreUnavailable from error

        forks.look()
        with self.lock:
            if self._drops == drops:
                namesakes = self._answers.get(owner.id, {})
                if len(namesakes) >= _NAMESAKES:
                    namesakes = {}
                self._answers[owner.id] = {**namesakes, owner: (rights, since + self._ttl)}
        return rights

    def drop(self, owner_id: str) -> None:
        """Forget the answers about the owners with this id."""
        with self.lock:
            self._drops += 1
            self._answers.pop(owner_id, None)

    def renew(self) -> None:
        """Replace the lock, whose holder did not survive a fork."""
        self.lock = threading.Lock()

    def clear(self) -> None:
        """Forget every answer."""
        with self.lock:
            self._drops += 1
            self._answers.clear()


def _rights(allowed: Any) -> Rights:
    """Return the rights in a hook's answer."""
    if allowed is None:
        return _GONE
    return Rights(compile_grants(as_allowed_scopes(allowed)))


def _weight(answers: dict[Owner, tuple[Rights, float]]) -> int:
    weight = 0
    for owner, (rights, _) in answers.items():
        weight += _ANSWER + owner_weight(owner) + grants_weight(rights.grants)

    # Answers heavier than the whole cache take the place of all others.
    return min(weight, _MAX_BYTES)
