"""The gate in front of any ASGI application, for HTTP and WebSocket.

It translates between ASGI and the core, and decides nothing itself.
"""

from faregate_asgi.middleware import GateMiddleware

__all__ = ["GateMiddleware"]
