"""SQLite: the file and what lies beside it, its connections, the shared page, the hot queries.

What only SQLite needs is here. Stores, caches and lifecycles know it by
:mod:`faregate.stores.database` alone; the doctor and the commands about the store's file look
inside.
"""
