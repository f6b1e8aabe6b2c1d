"""The fields of tokens and shares: each is declared once, and everything else is derived from that.

Given values become columns here, and columns become values. Request bodies, tables, the words of
the API and the options of the command line follow the declarations. Nothing here reads a store, and
nothing here decides who may set a field.
"""
