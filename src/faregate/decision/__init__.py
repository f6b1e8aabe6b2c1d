"""The judgement on a credential, from values alone.

A record is compiled into an interval of time, networks and grants. Nothing here reads a store, a
clock or a request; the instant and the address are arguments.
"""
