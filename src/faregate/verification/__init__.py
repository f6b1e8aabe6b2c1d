"""The way of a presented credential: read, look up, judge; and note the use.

It takes values and returns a principal, or raises Denied. It changes no record but for its last use.
"""
