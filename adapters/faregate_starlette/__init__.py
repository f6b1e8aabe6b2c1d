"""The gate in front of Starlette's routes: a decorator and the management API.

It translates between Starlette and the core, and decides nothing itself.
"""

from faregate_starlette.guard import requires
from faregate_starlette.management import management

__all__ = ["management", "requires"]
