"""A thread that lives as long as its object.

Between its steps the thread holds a weak reference to its owner, so it keeps nothing alive: it ends
by itself once the owner is garbage.
"""

from __future__ import annotations

import weakref
from threading import Event, Thread
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Owner = TypeVar("Owner")


class OwnedThread(Thread, Generic[Owner]):
    """A daemon thread that calls ``step`` again and again until the owner is gone.

    ``step`` takes the owner and returns the seconds until the next step, or None to end. Setting
    ``wake`` brings the next step forward. ``pause`` are the seconds before the first step,
    ``look_every`` those after which the thread looks for its owner.
    """

    def __init__(
        self,
        name: str,
        owner: Owner,
        step: Callable[[Owner], float | None],
        *,
        wake: Event,
        pause: float,
        look_every: float,
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._owner = weakref.ref(owner)
        self._step = step
        self._wake = wake
        self._pause = pause
        self._look_every = look_every

    def run(self) -> None:
        """Call the steps; see the class."""
        pause: float | None = self._pause
        while pause is not None:
            self._wake.wait(min(pause, self._look_every))
            owner = self._owner()
            if owner is None:
                return
            pause = self._step(owner)
            # A strong reference would keep the owner alive during the wait.
            del owner

    def try_start(self) -> bool:
        """Start the thread, and return False if the system has no thread left."""
        try:
            self.start()
        except RuntimeError:
            return False
        return True
