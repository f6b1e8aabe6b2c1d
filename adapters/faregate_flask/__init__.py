"""The gate in front of Flask's routes: an extension, a decorator, a blueprint. It translates and decides nothing."""

from faregate_flask.extension import Faregate, current_principal

__all__ = ["Faregate", "current_principal"]
