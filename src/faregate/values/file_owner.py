"""Whose the files are that are made beside a database."""

from __future__ import annotations

import os
from contextlib import suppress


def make_alike(database: str, descriptor: int, most: int = 0o777) -> None:
    """Give a file beside the database its owner, group and mode, as SQLite does with its own; no bits beyond ``most``.

    Who may not, cannot: group bits are not given to another group than the database's. OSError if there is no database.
    """
    wanted, present = os.stat(database), os.fstat(descriptor)
    if (present.st_uid, present.st_gid) != (wanted.st_uid, wanted.st_gid):
        try:
            os.fchown(descriptor, wanted.st_uid, wanted.st_gid)
        except OSError:
            with suppress(OSError):
                os.fchown(descriptor, -1, wanted.st_gid)
        present = os.fstat(descriptor)

    mode = wanted.st_mode & 0o777 & most
    if present.st_gid != wanted.st_gid:
        mode &= ~0o070
    with suppress(OSError):
        if present.st_mode & 0o777 != mode:
            os.fchmod(descriptor, mode)
