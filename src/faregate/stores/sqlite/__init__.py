"""SQLite: the file and what lies beside it, its connections, the shared page, the hot queries.

What only SQLite needs is here, and nothing of it may be known elsewhere but for the database that
:mod:`faregate.stores.store` opens.
"""
