"""The gate in front of Flask's routes: an extension, a decorator and a blueprint.

It translates between Flask and the core, and decides nothing itself.
"""

from faregate_flask.extension import Faregate, current_principal

__all__ = ["Faregate", "current_principal"]
