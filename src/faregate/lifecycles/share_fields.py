"""Kept while its users move."""

from faregate.fields.share_fields import *  # noqa: F403
from faregate.stores.compiled_rows import compile_share_row as share_limits
