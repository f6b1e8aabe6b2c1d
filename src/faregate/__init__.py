"""A gate in front of the routes of a web application.

No web framework is imported here, and no database library until a :class:`Gate` is made.
"""

from faregate.decision.principal import Principal, path
from faregate.errors import (
    Conflict,
    Denied,
    FaregateError,
    InvalidInput,
    Misconfigured,
    NotFound,
    PreconditionFailed,
    StoreUnavailable,
    UnsupportedTokenType,
)
from faregate.gate import Gate
from faregate.jwts.issuer import Issuer
from faregate.model import (
    AllowedScopes,
    AuditEntry,
    AuditPage,
    Batch,
    Closed,
    Exchanged,
    Explanation,
    Failure,
    Introspected,
    Issued,
    IssuedShare,
    Org,
    Owner,
    Page,
    PermissionGrant,
    Purged,
    RealmScopes,
    Redeemed,
    RoleGrant,
    ServiceScopes,
    Share,
    ShareParams,
    Step,
    Token,
)
from faregate.policy import Policy
from faregate.rules import AUTHENTICATED, PUBLIC
from faregate.values.grants import ANY
from faregate.values.needs import Permission, Role, any_of
from faregate.version import __version__ as __version__

__all__ = [
    "ANY",
    "AUTHENTICATED",
    "PUBLIC",
    "AllowedScopes",
    "AuditEntry",
    "AuditPage",
    "Batch",
    "Closed",
    "Conflict",
    "Denied",
    "Exchanged",
    "Explanation",
    "Failure",
    "FaregateError",
    "Gate",
    "Introspected",
    "InvalidInput",
    "Issued",
    "IssuedShare",
    "Issuer",
    "Misconfigured",
    "NotFound",
    "Org",
    "Owner",
    "Page",
    "Permission",
    "PermissionGrant",
    "Policy",
    "PreconditionFailed",
    "Principal",
    "Purged",
    "RealmScopes",
    "Redeemed",
    "Role",
    "RoleGrant",
    "ServiceScopes",
    "Share",
    "ShareParams",
    "Step",
    "StoreUnavailable",
    "Token",
    "UnsupportedTokenType",
    "any_of",
    "path",
]
