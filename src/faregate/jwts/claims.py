"""Rules for the header and the claims of an access token (RFC 7519, RFC 8725, RFC 9068).

The law: each rule is checked once, here, and only after the signature was verified. A refusal is
always ``unknown_credential``; its reason is for the operator and never reaches the caller.
"""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from math import isfinite
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, cast
from urllib.parse import quote

from faregate.errors import Denied, InvalidInput, StoreUnavailable
from faregate.jwts.issuer import media_type
from faregate.values.instants import END_OF_TIME
from faregate.values.names import MAX_ID, abbreviated, check_id, check_name
from faregate.values.scopes import MAX_SCOPES, check_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from faregate.jwts.issuer import Issuer
    from faregate.values.networks import Networks

JsonObject = dict[str, Any]
MANAGEMENT = "gate:"
_check_party = partial(check_name, longest=MAX_ID)


class Claims(NamedTuple):
    """The checked claims of a token. Instants are UTC epoch seconds, as the token has them.

    ``record_id``: unique; tokens, shares and other issuers use other prefixes.
    ``scopes``: literal scopes, on ``objects``, or on every object where that is None.
    ``revocations``: keys of its possible revocations: by subject and, if present, by ``jti``.
    ``absent``: names of the scope claims that the token lacks.
    """

    record_id: str
    issuer: str
    subject: str
    org: str | None
    scopes: tuple[str, ...]
    objects: frozenset[str] | None
    networks: Networks | None
    audience: tuple[str, ...]
    token_id: str | None
    issued_at: float | None
    not_before: float | None
    expires_at: float
    leeway: float
    revocations: tuple[str, ...]
    absent: tuple[str, ...]


def check_header(header: JsonObject, issuer: Issuer) -> None:
    """Raise Denied unless a header fits an access token of the issuer.

    ``alg`` and ``kid`` have already chosen the key. ``jwk``, ``jku``, ``x5u``, ``x5c`` and ``zip``
    are ignored: a token never says how it is verified (RFC 8725 section 3.10), and JWS has no
    compression.
    """
    if not isinstance(header.get("kid", ""), str):
        _refuse("the kid of its header is not a string (RFC 7515 section 4.1.4)")
    if "crit" in header:
        _refuse("its header has a crit; no extension is supported (RFC 7515 section 4.1.11)")
    if header.get("b64", True) is not True:
        _refuse("the b64 of its header is not true, as it is for every JWT (RFC 7797 section 7)")

    content = header.get("cty")
    if isinstance(content, str) and media_type(content) == "jwt":
        _refuse("its payload is another token (RFC 7519 section 5.2)")

    _check_typ(header, issuer)


def _check_typ(header: JsonObject, issuer: Issuer) -> None:
    typ = header.get("typ")
    if not isinstance(typ, str | None) or ("typ" in header and typ is None):
        _refuse("the typ of its header is not a string (RFC 7515 section 4.1.9)")

    compared = None if typ is None else media_type(typ)
    if compared != issuer.typ:
        expected = "none" if issuer.typ is None else repr(issuer.typ)
        _refuse(
            f"the typ of its header is {typ!r}; the issuer has {expected} (RFC 8725 section 3.11)"
        )


def read_claims(claims: JsonObject, issuer: Issuer) -> Claims:
    """Return the checked claims of a token that the issuer signed.

    The times are returned, and not compared with the clock. Raises Denied ``unknown_credential``
    if a claim breaks a rule, and StoreUnavailable if a function of the application fails.
    """
    missing = [name for name in issuer.required_claims if name not in claims]
    if missing:
        _refuse(f"it has no {' and no '.join(missing)}, required for every token of its issuer")
    if claims["iss"] != issuer.issuer:
        _refuse("its iss is not the issuer's (RFC 9068 section 4)")

    audience = _audience(claims, issuer.audience_claim, issuer.audiences)

    # An aud restricts a token even where the issuer writes the audience into another claim.
    if "aud" in claims and issuer.audience_claim != "aud":
        _audience(claims, "aud", issuer.audiences)

    if "cnf" in claims:
        _refuse("it is bound to a key, and a bearer proves no possession (RFC 7800 section 3)")

    subject = _string(claims, "sub", _check_party)
    token_id = _string(claims, "jti", check_id) if "jti" in claims else None
    if "client_id" in claims:
        _string(claims, "client_id", check_id)

    expires_at, issued_at, not_before = _times(claims)
    revocations = [subject_key(issuer.issuer, subject)]
    if token_id is not None:
        revocations.append(token_key(issuer.issuer, token_id))

    # Functions of the application run last, on claims that keep the rules above.
    scopes, absent = _scopes(claims, issuer)
    org = None
    if issuer.org_claim is not None:
        org = _organization(claims, issuer.org_claim)

    return Claims(
        record_id=f"{issuer.prefix}{quote(subject, safe='')}",
        issuer=issuer.issuer,
        subject=subject,
        org=org,
        scopes=scopes,
        objects=_objects(claims, issuer),
        networks=issuer.networks,
        audience=audience,
        token_id=token_id,
        issued_at=issued_at,
        not_before=not_before,
        expires_at=expires_at,
        leeway=issuer.leeway,
        revocations=tuple(revocations),
        absent=absent,
    )


def token_key(issuer: str, token_id: str) -> str:
    """Return the key under which the revocation of a single token is stored."""
    return _key("jti", issuer, token_id)


def subject_key(issuer: str, subject: str) -> str:
    """Return the key under which the revocation of a subject's tokens is stored."""
    return _key("sub", issuer, subject)


def _key(kind: str, issuer: str, name: str) -> str:
    # An issuer holds no control character, so NUL keeps two different pairs apart.
    return f"{kind}:{sha256(f'{issuer}{chr(0)}{name}'.encode()).hexdigest()[:32]}"


def _refuse(why: str) -> NoReturn:
    raise Denied("unknown_credential", why=why)


def _string(claims: JsonObject, name: str, check: Callable[[object, str], str]) -> str:
    try:
        return check(claims.get(name), name)
    except InvalidInput as error:
        _refuse(f"its {error}")


def _audience(claims: JsonObject, name: str, accepted: frozenset[str]) -> tuple[str, ...]:
    """Return the audience in a claim; a member must be accepted (RFC 7519 section 4.1.3)."""
    value = claims[name]
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or not _are_strings(cast("list[object]", listed)):
        _refuse(f"its {name} is not a string or a list of strings (RFC 7519 section 4.1.3)")

    audience = tuple(map(str, cast("list[object]", listed)))
    if accepted.isdisjoint(audience):
        quoted = abbreviated([*map(repr, audience)])
        expected = " or ".join(sorted(accepted))
        _refuse(f"its {name} is {quoted}, and not {expected} (RFC 7519 section 4.1.3)")
    return audience


def _organization(
    claims: JsonObject, selector: tuple[str, ...] | Callable[[JsonObject], Any]
) -> str:
    if callable(selector):
        value = _apply(selector, "org_claim", claims, _is_string)
        if value is None:
            _refuse("the function org_claim names no organization for it")
        return _string({"org_claim": value}, "org_claim", _check_party)

    for name in selector:
        value = _claim(claims, name)
        if value is not None:
            return _string({name: value}, name, _check_party)
    _refuse(f"it has no {' and no '.join(selector)}, where its organization would be")


def _apply(
    function: Callable[[JsonObject], Any],
    argument: str,
    claims: JsonObject,
    fits: Callable[[object], bool],
) -> Any:
    """Return the result of the application's function; StoreUnavailable if it fails."""
    try:
        value = function(claims)
        if not (value is None or fits(value)):
            raise InvalidInput(f"it returned {type(value).__name__}")  # noqa: TRY301
    except Exception as error:
        raise _failed(argument, error) from error
    return value


def _failed(argument: str, error: Exception) -> StoreUnavailable:
    """Return the error that names a failed function of the application, and its exception."""
    return StoreUnavailable(
        f"the function {argument} failed: {type(error).__name__} {ascii(str(error))[:300]}"
    )


def _is_string(value: object) -> bool:
    return isinstance(value, str)


def _are_strings(value: object) -> bool:
    if isinstance(value, str):
        return True
    if not isinstance(value, list | tuple | set | frozenset):
        return False
    return all(isinstance(item, str) for item in cast("Sequence[object]", value))


def _claim(claims: JsonObject, name: str) -> Any:
    """Return a claim by its name, or by the dotted path of a nested member; None if absent.

    A name may itself contain dots, so the longest name that is present is taken first.
    """
    if name in claims:
        return claims[name]

    for place in range(len(name) - 1, 0, -1):
        if name[place] != ".":
            continue
        inner = claims.get(name[:place])
        if isinstance(inner, dict):
            return _claim(cast("JsonObject", inner), name[place + 1 :])
    return None


def _times(claims: JsonObject) -> tuple[float, float | None, float | None]:
    """Return ``exp``, ``iat`` and ``nbf``; only the first is always present."""
    expires_at = _instant(claims, "exp")
    issued_at = _instant(claims, "iat")
    not_before = _instant(claims, "nbf")

    if expires_at is None or (issued_at is not None and issued_at >= expires_at):
        _refuse("its exp is not after its iat (RFC 7519 section 4.1.4)")
    return expires_at, issued_at, not_before


def _instant(claims: JsonObject, name: str) -> float | None:
    """Return a NumericDate (RFC 7519 section 2), which is seconds that a datetime can hold."""
    if name not in claims:
        return None

    value = claims[name]
    if type(value) not in (int, float) or not (0 <= value < END_OF_TIME and isfinite(value)):
        _refuse(f"its {name} is not a number of seconds since 1970 (RFC 7519 section 2)")
    return float(value)


def _scopes(claims: JsonObject, issuer: Issuer) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the literal scopes of a token, and the names of the scope claims that it lacks.

    Each claim is a string (RFC 8693 section 4.2) or a list. Patterns and malformed scopes are
    dropped, and so are management scopes of an issuer that does not manage.
    """
    values = _scope_values(claims, issuer)

    listed: list[str] = []
    for name, value in values.items():
        if value is None:
            continue
        if not _are_strings(value):
            _refuse(f"its {name} is not a string or a list of strings (RFC 8693 section 4.2)")
        if isinstance(value, str):
            listed += value.split(" ")
        else:
            listed += value

    if len(listed) > MAX_SCOPES:
        _refuse(f"it has more than {MAX_SCOPES} scopes")

    scopes = tuple(dict.fromkeys(scope for scope in listed if _grants(scope, issuer)))
    absent = tuple(name for name, value in values.items() if value is None)
    return scopes, absent


def _scope_values(claims: JsonObject, issuer: Issuer) -> dict[str, Any]:
    selector = issuer.scopes_claim
    if not callable(selector):
        return {name: _claim(claims, name) for name in selector}

    value = _apply(selector, "scopes_claim", claims, _are_strings)
    # Some providers sign tokens for everybody and every audience: None refuses the token.
    if value is None:
        _refuse("the function scopes_claim names no scopes for it")
    return {"scopes_claim": value}


def _grants(scope: str, issuer: Issuer) -> bool:
    if "*" in scope or (scope.startswith(MANAGEMENT) and not issuer.manages):
        return False

    try:
        check_scope(scope, "scope")
    except InvalidInput:
        return False
    return True


def _objects(claims: JsonObject, issuer: Issuer) -> frozenset[str] | None:
    if issuer.resources is None:
        return None

    try:
        objects: Any = issuer.resources(claims)
        if objects is None:
            return None
        return _ids(objects)
    except Exception as error:
        raise _failed("resources", error) from error


def _ids(objects: object) -> frozenset[str]:
    if not isinstance(objects, list | tuple | set | frozenset):
        raise InvalidInput("resources: the function returned neither a list of ids nor None")

    ids = cast("Sequence[object]", objects)
    if len(ids) > MAX_SCOPES:
        raise InvalidInput(f"resources: the function returned more than {MAX_SCOPES} ids")
    return frozenset(check_id(item, "resources") for item in ids)
