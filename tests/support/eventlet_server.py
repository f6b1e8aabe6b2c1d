"""Serves ``served:wsgi`` with eventlet: ``eventlet_server before|after <port or socket path>``.

``before`` patches threads into greenlets before the application is loaded, ``after`` does it
afterwards.
"""

from __future__ import annotations

import socket
import sys
from importlib import import_module

import eventlet
import eventlet.wsgi


def main(when: str, place: str) -> None:
    """Serve until the process is told to end."""
    if when == "before":
        eventlet.monkey_patch()
    application = import_module("served").wsgi
    if when == "after":
        eventlet.monkey_patch()
    if place.isdecimal():
        listener = eventlet.listen(("127.0.0.1", int(place)))
    else:
        listener = eventlet.listen(place, family=socket.AF_UNIX)
    eventlet.wsgi.server(listener, application, log_output=False)


main(*sys.argv[1:])
