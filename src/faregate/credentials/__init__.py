"""Credentials as texts: their place in a request, their form, and the answer to a denial.

Nothing here looks into a store. A text is read, or minted and signed, and adapters get HTTP answers
as values.
"""
