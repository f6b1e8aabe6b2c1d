"""A gate in front of the routes of a web application.

No web framework is imported here, and no database library until a :class:`Gate` is made.
"""

from faregate.errors import (
    Conflict,
    Denied,
    FaregateError,
    InvalidInput,
    Misconfigured,
    NotFound,
    PreconditionFailed,
    StoreUnavailable,
)
from faregate.gate import Gate
from faregate.model import (
    AllowedScopes,
    Batch,
    Failure,
    Issued,
    IssuedShare,
    Org,
    Owner,
    Page,
    PermissionGrant,
    RealmScopes,
    Redeemed,
    RoleGrant,
    ServiceScopes,
    Share,
    ShareParams,
    Token,
)
from faregate.policy import Policy
from faregate.principal import Principal, path
from faregate.rules import AUTHENTICATED, PUBLIC
from faregate.scopes import ANY, Permission, Role, any_of

__version__ = "0.1.0"

__all__ = [
    "ANY",
    "AUTHENTICATED",
    "PUBLIC",
    "AllowedScopes",
    "Batch",
    "Conflict",
    "Denied",
    "Failure",
    "FaregateError",
    "Gate",
    "InvalidInput",
    "Issued",
    "IssuedShare",
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
    "RealmScopes",
    "Redeemed",
    "Role",
    "RoleGrant",
    "ServiceScopes",
    "Share",
    "ShareParams",
    "StoreUnavailable",
    "Token",
    "any_of",
    "path",
]
