"""The client's side of refresh tokens: authentication for ``httpx2`` and ``requests``.

Nothing here imports the gate, a store or a framework: it runs in programs that call a guarded API.
"""

from faregate.client.refresh_auth import RefreshAuth
from faregate.client.token_endpoint import ExchangeRefused, ExchangeUnanswered

__all__ = ["ExchangeRefused", "ExchangeUnanswered", "RefreshAuth"]
