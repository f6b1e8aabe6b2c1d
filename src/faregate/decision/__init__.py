"""The judgement on one credential, from values alone.

A record is compiled into what is judged: an interval of time, networks, grants. Nothing here reads
a store, a clock or a request; the instant and the address are arguments.
"""
