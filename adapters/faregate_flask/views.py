"""The view functions of an application, watched for guards that guard nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from faregate import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping

    View = Callable[..., Any]


class Views(dict[str, Any]):
    """The view functions of an application, which takes them by :meth:`__setitem__`.

    A guard that stands above its route decorator guards nothing, since the route has the view itself. Such a view
    answers 500. ``guarded`` are the views that have a guard somewhere. Watched here, this costs no request anything.
    """

    def __init__(self, views: Mapping[str, View], guarded: Container[View]) -> None:
        super().__init__()
        self._guarded = guarded
        for endpoint, view in views.items():
            self[endpoint] = view

    def __setitem__(self, endpoint: str, view: View) -> None:
        super().__setitem__(endpoint, _misplaced(view) if _is_in(self._guarded, view) else view)

    def shut(self, view: View) -> None:
        """Have the routes of a view answer 500 that has got a guard after they were made."""
        for endpoint in [endpoint for endpoint, known in self.items() if known is view]:
            super().__setitem__(endpoint, _misplaced(view))


def _is_in(views: Container[View], view: View) -> bool:
    try:
        return view in views
    except TypeError:  # a view that cannot be hashed was never guarded
        return False


def _misplaced(view: View) -> View:
    name = getattr(view, "__name__", "the view")

    def shut(*_: object, **__: object) -> None:
        raise Misconfigured(f"@requires of {name}() stands above the route decorator: put it under it")

    return shut
