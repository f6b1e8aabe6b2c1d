"""Where records live, and how every process learns that they changed.

Statements, transactions, the change feed and the record cache are here, and no rule about who may
do what. SQLAlchemy is loaded when a store is opened, not before. One database is one package.
"""
