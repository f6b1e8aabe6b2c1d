"""The gate in front of any ASGI application, HTTP and WebSocket. It translates and decides nothing."""

from faregate_asgi.middleware import GateMiddleware

__all__ = ["GateMiddleware"]
