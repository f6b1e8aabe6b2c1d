"""Credentials as texts: where a request presents one, what it refers to, how a denial is answered.

Nothing here looks into a store. A text is read, or minted and signed, and adapters get HTTP answers
as values.
"""
