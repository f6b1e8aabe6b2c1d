"""The gate in front of any WSGI application (PEP 3333).

It translates between WSGI and the core, and decides nothing itself.
"""

from faregate_wsgi.middleware import GateMiddleware

__all__ = ["GateMiddleware"]
