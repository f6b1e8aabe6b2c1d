"""Kept while its users move."""

from faregate.fields.share_fields import *  # noqa: F403
