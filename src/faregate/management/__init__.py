"""The management API over HTTP, described once for every framework.

An operation reads the values of a request, calls a lifecycle, and returns an answer as values.
Nothing here decides who may do what, and no framework is imported.
"""
