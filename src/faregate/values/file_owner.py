"""Owner, group and mode of the files beside a database.

The law: a file beside a database is open to the users of the database, as far as the process may
grant it, and to no other group.
"""

from __future__ import annotations

import os
from contextlib import suppress


def make_alike(database: str, descriptor: int, most: int = 0o777) -> None:
    """Give an open file the owner, group and mode of a database, as SQLite does with its own files.

    ``database`` is the path of the database, ``descriptor`` the open file, ``most`` the mode bits
    that the file may have at most. An owner or group that the process may not set stays as it is;
    if the group stays, the file gets no group bits.

    Raises OSError if there is no database.
    """
    wanted = os.stat(database)
    present = os.fstat(descriptor)
    if (present.st_uid, present.st_gid) != (wanted.st_uid, wanted.st_gid):
        try:
            os.fchown(descriptor, wanted.st_uid, wanted.st_gid)
        except OSError:
            # Only root may give a file away; its owner may still set a group of their own.
            with suppress(OSError):
                os.fchown(descriptor, -1, wanted.st_gid)
        present = os.fstat(descriptor)

    mode = wanted.st_mode & 0o777 & most
    if present.st_gid != wanted.st_gid:
        mode &= ~0o070

    with suppress(OSError):
        if present.st_mode & 0o777 != mode:
            os.fchmod(descriptor, mode)
