"""The view functions of an application, watched for misplaced guards.

A guard above its route decorator guards nothing: the route holds the view itself. Such a view
answers 500 from its registration on. The check runs when a view is registered or guarded, and costs
no request anything.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from faregate import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping
    from typing import Self

    View = Callable[..., Any]


class Views(dict[str, Any]):
    """Maps endpoints to view functions, and replaces each view whose guard is misplaced."""

    def __init__(self, views: Mapping[str, View]) -> None:
        super().__init__(views)
        self._guarded: list[Container[View]] = []

    def watch(self, guarded: Container[View]) -> None:
        """Shut every present and future view that is in ``guarded``.

        ``guarded`` holds the functions that have a guard. Registered as a view itself, a function
        is reached past that guard.
        """
        self._guarded.append(guarded)
        self.update(self)

    def __setitem__(self, endpoint: str, view: View) -> None:
        if any(_contains(guarded, view) for guarded in self._guarded):
            view = _Misplaced(view)
        super().__setitem__(endpoint, view)

    def setdefault(self, endpoint: str, view: Any = None) -> Any:
        """Return the view of an endpoint, which becomes ``view`` if it had none."""
        if endpoint not in self:
            self[endpoint] = view
        return self[endpoint]

    def update(self, *views: Any, **named: Any) -> None:
        """Add the views of a mapping or of pairs, and of keyword arguments."""
        for endpoint, view in dict(*views, **named).items():
            self[endpoint] = view

    def __ior__(self, views: Any) -> Self:  # type: ignore[override, misc]
        self.update(views)
        return self

    def shut(self, view: View) -> None:
        """Let all routes of a view answer 500: its guard was made after them."""
        # By equality: a bound method is another object each time.
        endpoints = [endpoint for endpoint, known in self.items() if known == view]
        for endpoint in endpoints:
            super().__setitem__(endpoint, _Misplaced(view))


class _Misplaced:
    """Replaces a view whose guard is misplaced, and raises Misconfigured when it is called.

    It equals its view, so that the view may be registered for another route, too.
    """

    def __init__(self, view: View) -> None:
        self._view = view
        self.__name__ = getattr(view, "__name__", "the view")

    def __call__(self, *_: object, **__: object) -> None:
        raise Misconfigured(
            f"@requires of {self.__name__}() stands above the route decorator: put it below"
        )

    def __eq__(self, other: object) -> bool:
        if isinstance(other, _Misplaced):
            return bool(self._view == other._view)
        return bool(self._view == other)

    def __hash__(self) -> int:
        return hash(self._view)


def _contains(guarded: Container[View], view: View) -> bool:
    # A view without a hash was never guarded.
    try:
        return view in guarded
    except TypeError:
        return False
