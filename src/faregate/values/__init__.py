"""Values that requests and records are made of: scopes, networks, addresses, instants, names.

Each is checked when it is made, and compares by what it holds. Nothing here knows a credential, a
store or a clock, and nothing here decides who gets in.
"""
