"""The view functions of an application, watched for guards that guard nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from faregate import Misconfigured

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping
    from typing import Self

    View = Callable[..., Any]


class Views(dict[str, Any]):
    """The view functions of an application, of which each one with a misplaced guard answers 500.

    A guard that stands above its route decorator guards nothing, since the route has the view itself. This is noticed
    when a view is put in or guarded, so it costs no request anything.
    """

    def __init__(self, views: Mapping[str, View]) -> None:
        super().__init__(views)
        self._guarded: list[Container[View]] = []

    def watch(self, guarded: Container[View]) -> None:
        """Shut those views that are in ``guarded``, which holds what has a guard somewhere, and those that come."""
        self._guarded.append(guarded)
        self.update(self)

    def __setitem__(self, endpoint: str, view: View) -> None:
        misplaced = any(_is_in(guarded, view) for guarded in self._guarded)
        super().__setitem__(endpoint, _Misplaced(view) if misplaced else view)

    def setdefault(self, endpoint: str, view: Any = None) -> Any:
        """Return the view of an endpoint, which is ``view`` if there was none."""
        if endpoint not in self:
            self[endpoint] = view
        return self[endpoint]

    def update(self, *views: Any, **named: Any) -> None:
        """Take the views of a mapping or of pairs, and those that are named."""
        for endpoint, view in dict(*views, **named).items():
            self[endpoint] = view

    def __ior__(self, views: Any) -> Self:  # type: ignore[override, misc]
        self.update(views)
        return self

    def shut(self, view: View) -> None:
        """Have all routes of a view answer 500: its guard was made after them."""
        # Equal is enough: a bound method is another object each time.
        for endpoint in [endpoint for endpoint, known in self.items() if known == view]:
            super().__setitem__(endpoint, _Misplaced(view))


class _Misplaced:
    """Stands for a view whose guard is misplaced. It equals the view, so that another route may have it, too."""

    def __init__(self, view: View) -> None:
        self._view = view
        self.__name__ = getattr(view, "__name__", "the view")

    def __call__(self, *_: object, **__: object) -> None:
        raise Misconfigured(
            f"@requires of {self.__name__}() stands above the route decorator: put it under it"
        )

    def __eq__(self, other: object) -> bool:
        return bool(self._view == (other._view if isinstance(other, _Misplaced) else other))

    def __hash__(self) -> int:
        return hash(self._view)


def _is_in(views: Container[View], view: View) -> bool:
    try:
        return view in views
    except TypeError:  # a view that cannot be hashed was never guarded
        return False
