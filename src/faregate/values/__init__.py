"""Values of requests and records: scopes, networks, addresses, instants, names.

A value is checked when it is made, and compared by its content. Nothing here knows a credential, a
store or a clock, and nothing here decides about a request.
"""
