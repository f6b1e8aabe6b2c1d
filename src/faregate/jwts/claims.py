"""What a JWT must say to be an access token of its issuer (RFC 7519, RFC 8725, RFC 9068), and what it then stands for.

The signature is another matter: here the members of the header and the claims are judged, each rule once. What is
refused is told in words to who looks after the gate, and to nobody else.
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

Members = dict[str, Any]
MANAGEMENT = "gate:"
_check_party = partial(check_name, longest=MAX_ID)


class Claims(NamedTuple):
    """What a token of an issuer stands for. Instants are UTC epoch seconds, as the token has them.

    ``record_id`` is no other record's: those of tokens and shares begin otherwise, and no other issuer's do so.
    ``scopes`` hold on ``objects``, or on any where that is None. ``revocations`` are the names under which a
    revocation of it is kept: by its subject and, if it has a ``jti``, by that. ``absent`` are the claims with scopes
    that it has not.
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


def check_header(header: Members, issuer: Issuer) -> None:
    """Raise Denied for a header that is not that of an access token of this issuer; ``alg`` and ``kid`` chose the key.

    ``jwk``, ``jku``, ``x5u``, ``x5c`` and ``zip`` are not looked at: nothing of a token says how it is verified
    (RFC 8725 section 3.10), and a JWS knows no compression.
    """
    if not isinstance(header.get("kid", ""), str):
        _refuse("the kid of its header is no text (RFC 7515 section 4.1.4)")
    if "crit" in header:
        _refuse(
            "its header has a crit, of which nothing is understood here (RFC 7515 section 4.1.11)"
        )
    if header.get("b64", True) is not True:
        _refuse("its payload is not encoded as a JWT's is (RFC 7797 section 7)")
    content = header.get("cty")
    if isinstance(content, str) and media_type(content) == "jwt":
        _refuse("its payload is another token (RFC 7519 section 5.2)")
    typ = header.get("typ")
    if not isinstance(typ, str | None) or ("typ" in header and typ is None):
        _refuse("the typ of its header is no text (RFC 7515 section 4.1.9)")
    if (None if typ is None else media_type(typ)) != issuer.typ:
        wanted = "none" if issuer.typ is None else repr(issuer.typ)
        _refuse(
            f"the typ of its header is {typ!r}, and the issuer's is {wanted} (RFC 8725 section 3.11)"
        )


def read_claims(claims: Members, issuer: Issuer) -> Claims:
    """Return what claims stand for that this issuer signed.

    Denied ``unknown_credential`` for what breaks a rule, whatever its time; StoreUnavailable if the application's
    own function fails.
    """
    missing = [name for name in issuer.required_claims if name not in claims]
    if missing:
        _refuse(f"it has no {' and no '.join(missing)}, which every token of its issuer must have")
    if claims["iss"] != issuer.issuer:
        _refuse("its iss is not the issuer's (RFC 9068 section 4)")
    audience = _audience(claims, issuer.audience_claim, issuer.audiences)
    if (
        "aud" in claims and issuer.audience_claim != "aud"
    ):  # what it says itself counts, wherever else that stands
        _audience(claims, "aud", issuer.audiences)
    if "cnf" in claims:
        _refuse("it is bound to a key, of which a bearer shows nothing (RFC 7800 section 3)")
    subject = _text(claims, "sub", _check_party)
    token_id = _text(claims, "jti", check_id) if "jti" in claims else None
    if "client_id" in claims:
        _text(claims, "client_id", check_id)
    expires, issued, opens = (_instant(claims, name) for name in ("exp", "iat", "nbf"))
    if expires is None or (issued is not None and issued >= expires):
        _refuse("its exp is not after its iat (RFC 7519 section 4.1.4)")
    revocations = (subject_key(issuer.issuer, subject),)
    scopes, absent = _scopes(claims, issuer)
    return Claims(
        record_id=f"{issuer.prefix}{quote(subject, safe='')}",
        issuer=issuer.issuer,
        subject=subject,
        org=None if issuer.org_claim is None else _organization(claims, issuer.org_claim),
        scopes=scopes,
        objects=_objects(claims, issuer),
        networks=issuer.networks,
        audience=audience,
        token_id=token_id,
        issued_at=issued,
        not_before=opens,
        expires_at=expires,
        leeway=issuer.leeway,
        revocations=revocations
        if token_id is None
        else (*revocations, token_key(issuer.issuer, token_id)),
        absent=absent,
    )


def token_key(issuer: str, token_id: str) -> str:
    """Return the name under which the revocation of one token is kept."""
    return _key("jti", issuer, token_id)


def subject_key(issuer: str, subject: str) -> str:
    """Return the name under which the revocation of a subject's tokens is kept."""
    return _key("sub", issuer, subject)


def _key(kind: str, issuer: str, name: str) -> str:
    # An issuer holds no control character, so that no two pairs are the same text.
    return f"{kind}:{sha256(f'{issuer}{chr(0)}{name}'.encode()).hexdigest()[:32]}"


def _refuse(why: str) -> NoReturn:
    raise Denied("unknown_credential", why=why)


def _text(claims: Members, name: str, check: Callable[[object, str], str]) -> str:
    try:
        return check(claims.get(name), name)
    except InvalidInput as error:
        _refuse(f"its {error}")


def _audience(claims: Members, name: str, wanted: frozenset[str]) -> tuple[str, ...]:
    """Return whom a token is meant for by one of its claims, of whom one must be wanted (RFC 7519 section 4.1.3)."""
    value = claims[name]
    listed: Sequence[object] = (
        [value] if isinstance(value, str) else cast("Sequence[object]", value)
    )
    if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
        _refuse(f"its {name} is neither a text nor a list of texts (RFC 7519 section 4.1.3)")
    audience = tuple(map(str, listed))
    if wanted.isdisjoint(audience):
        named = abbreviated([*map(repr, audience)])
        _refuse(
            f"its {name} is {named}, and not {' or '.join(sorted(wanted))} (RFC 7519 section 4.1.3)"
        )
    return audience


def _organization(claims: Members, told: tuple[str, ...] | Callable[[Members], Any]) -> str:
    if callable(told):
        value = _asked(told, "org_claim", claims, _is_text)
        if value is None:
            _refuse("the function org_claim names no organization for it")
        return _text({"org_claim": value}, "org_claim", _check_party)

    name = next((name for name in told if _member(claims, name) is not None), None)
    if name is None:
        _refuse(f"it has no {' and no '.join(told)}, where its organization would be")
    return _text({name: _member(claims, name)}, name, _check_party)


def _asked(
    function: Callable[[Members], Any], member: str, claims: Members, fits: Callable[[object], bool]
) -> Any:
    """Return what the application's own function makes of claims; StoreUnavailable if it fails."""
    try:
        value = function(claims)
        if not (value is None or fits(value)):
            raise InvalidInput(f"it returned {type(value).__name__}")  # noqa: TRY301
    except Exception as error:
        raise _failed(member, error) from error
    return value


def _failed(member: str, error: Exception) -> StoreUnavailable:
    """Return the error for a function of the application that failed: which, and how."""
    return StoreUnavailable(
        f"the function {member} failed: {type(error).__name__} {ascii(str(error))[:300]}"
    )


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _are_texts(value: object) -> bool:
    if isinstance(value, str):
        return True
    listed = cast("Sequence[object]", value)
    return isinstance(listed, list | tuple | set | frozenset) and all(
        isinstance(one, str) for one in listed
    )


def _member(claims: Members, name: str) -> Any:
    """Return the claim of a name, or the member that a name with dots leads to; None if there is none.

    A dot may be in a name itself, so the longest name that is there is taken first.
    """
    if name in claims:
        return claims[name]
    for place in range(len(name) - 1, 0, -1):
        inner = claims.get(name[:place]) if name[place] == "." else None
        if isinstance(inner, dict):
            return _member(cast("Members", inner), name[place + 1 :])
    return None


def _instant(claims: Members, name: str) -> float | None:
    """Return a NumericDate (RFC 7519 section 2): a number of seconds, of which a date can be made."""
    if name not in claims:
        return None
    value = claims[name]
    if type(value) not in (int, float) or not (0 <= value < END_OF_TIME and isfinite(value)):
        _refuse(f"its {name} is no number of seconds since 1970 (RFC 7519 section 2)")
    return float(value)


def _scopes(claims: Members, issuer: Issuer) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the scopes of a token, literal: what is none, or would be more, opens nothing; and what claims it lacks.

    Each claim is a text (RFC 8693 section 4.2) or a list.
    """
    told = issuer.scopes_claim
    values: dict[str, Any]
    if callable(told):
        value = _asked(told, "scopes_claim", claims, _are_texts)
        if value is None:  # some providers sign for anybody, and for any audience
            _refuse("the function scopes_claim names no scopes for it")
        values = {"scopes_claim": value}
    else:
        values = {name: _member(claims, name) for name in told}
    listed: list[str] = []
    for name, value in values.items():
        if value is None:
            continue
        if not _are_texts(value):
            _refuse(f"its {name} is neither a text nor a list of texts (RFC 8693 section 4.2)")
        listed += value.split(" ") if isinstance(value, str) else value
    if len(listed) > MAX_SCOPES:
        _refuse(f"it has more than {MAX_SCOPES} scopes")
    scopes = tuple(dict.fromkeys(one for one in listed if _grants(one, issuer)))
    return scopes, tuple(name for name, value in values.items() if value is None)


def _grants(scope: str, issuer: Issuer) -> bool:
    if "*" in scope or (scope.startswith(MANAGEMENT) and not issuer.manages):
        return False
    try:
        check_scope(scope, "scope")
    except InvalidInput:
        return False
    return True


def _objects(claims: Members, issuer: Issuer) -> frozenset[str] | None:
    if issuer.resources is None:
        return None
    try:
        objects: Any = issuer.resources(claims)
        return None if objects is None else _ids(objects)
    except Exception as error:
        raise _failed("resources", error) from error


def _ids(objects: object) -> frozenset[str]:
    if not isinstance(objects, list | tuple | set | frozenset):
        raise InvalidInput("resources: the function returned neither a list of ids nor None")
    if len(objects) > MAX_SCOPES:  # pyright: ignore[reportUnknownArgumentType]  its items are checked one by one
        raise InvalidInput(f"resources: the function returned more than {MAX_SCOPES} ids")
    return frozenset(check_id(one, "resources") for one in cast("Sequence[object]", objects))
