"""The other end of refresh tokens: an ``httpx`` authentication that keeps its access credential fresh.

Nothing here imports the gate, a store or a framework: this runs in the programs that call a guarded API.
"""

from faregate.client.refresh_auth import RefreshAuth
from faregate.client.token_endpoint import ExchangeRefused, ExchangeUnanswered

__all__ = ["ExchangeRefused", "ExchangeUnanswered", "RefreshAuth"]
