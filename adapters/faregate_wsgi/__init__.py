"""The gate in front of any WSGI application (PEP 3333). It translates and decides nothing."""

from faregate_wsgi.middleware import GateMiddleware

__all__ = ["GateMiddleware"]
