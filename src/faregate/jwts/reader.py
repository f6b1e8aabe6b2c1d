"""JWTs of trusted issuers, in their compact form (RFC 7515 section 7.1): read, and verified by a key of the issuer.

What costs least comes first, so that junk costs little; what the token says of itself is believed when its signature
is known, and not before. The claims are judged in :mod:`faregate.jwts.claims`.
"""

from __future__ import annotations

from itertools import combinations
from string import ascii_letters, digits
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import msgspec

from faregate.credentials.signing_secret import same_key
from faregate.errors import Denied, InvalidInput
from faregate.jwts.claims import Claims, check_header, read_claims
from faregate.jwts.jwks import FetchedKeys, GivenKeys
from faregate.values.strict_json import parse_object

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from faregate.jwts.issuer import Issuer
    from faregate.jwts.jwks import Holds, KeySource
    from faregate.jwts.keys import Key
    from faregate.values.identities import Identities

_STANDARD = bytes.maketrans(b"-_", b"+/")
# The last character of a part, by how many stand beyond fours: what bits are left over are zero.
_LAST = {0: (ascii_letters + digits + "-_").encode(), 2: b"AQgw", 3: b"AEIMQUYcgkosw048"}
_PADDING = {0: b"", 2: b"==", 3: b"="}
_LONGEST_HEADER = 4096  # characters: some carry a certificate
_LONGEST_SIGNATURE = 1400  # of RSA with 8,192 bits


class _Header(msgspec.Struct):
    """What chooses the key."""

    alg: str
    kid: str | None = None


class _Payload(msgspec.Struct):
    """What chooses among issuers whose keys have the same name."""

    iss: str


_base64 = msgspec.json.Decoder(bytes)
_header = msgspec.json.Decoder(_Header)
_payload = msgspec.json.Decoder(_Payload)


class Trusted(NamedTuple):
    """A token whose signature and claims are good; ``holds`` tells at an instant whether its key still counts.

    It answers None where that cannot be told, and is itself None where the keys never change.
    """

    claims: Claims
    holds: Holds | None


class Trust(NamedTuple):
    """An issuer, and where its keys are."""

    issuer: Issuer
    keys: KeySource


class TrustedIssuers:
    """Reads the tokens of several issuers. InvalidInput where two have the same ``iss``, name or secret."""

    def __init__(
        self, issuers: Sequence[Issuer], identities: Identities, clock: Callable[[], float]
    ) -> None:
        if len({issuer.issuer for issuer in issuers}) < len(issuers):
            raise InvalidInput(
                "issuers: two have the same 'iss', by which their tokens are told apart"
            )
        if len({issuer.name and issuer.name.lower() for issuer in issuers}) < len(issuers):
            raise InvalidInput(
                "issuers: give all but one a name of its own, as in Issuer(name='corp', …), so that no two providers' "
                "users have the same identity"
            )
        self._identities = identities
        for one, other in combinations(issuers, 2):
            if any(same_key(mine, theirs) for mine in one.secrets for theirs in other.secrets):
                both = f"{one.issuer!r} and {other.issuer!r}"
                raise InvalidInput(
                    f"issuers: {both} have the same HMAC secret, so each can sign as the other"
                )
        self._trusts = [Trust(one, _source(one, clock)) for one in issuers]

    def read(self, raw: bytes, *, wait: bool) -> Trusted:
        """Return what a token of one of the issuers stands for: of three texts of base64url, with dots between.

        Denied ``unknown_credential`` for anything else. StoreUnavailable while the keys are not known, WouldWait where
        they would have to be waited for and ``wait`` is False.
        """
        first, last = raw.find(b"."), raw.rfind(b".")
        # Header and claims are objects and so begin with a brace; longer headers and signatures nobody makes.
        if raw[:1] != b"e" or raw[first + 1 : first + 2] != b"e":
            raise Denied("unknown_credential")
        if first > _LONGEST_HEADER or len(raw) - last > _LONGEST_SIGNATURE:
            _refuse(
                f"its header has more than {_LONGEST_HEADER} characters, or its signature is longer than any is"
            )
        header = _decode(raw[:first])
        named = _peek(header, _header)
        # Whether a key may be at hand costs less to know than whose token it is.
        trusts = [
            one
            for one in self._trusts
            if named.alg in one.issuer.algorithms and one.keys.may_have(named.kid, named.alg)
        ]
        if not trusts:
            _refuse(
                "no issuer that is trusted has a key of its kid, or takes its alg (RFC 8725 section 3.1)"
            )
        payload, signature = _decode(raw[first + 1 : last]), raw[last + 1 :]
        trust, key = _choose(trusts, named, _peek(payload, _payload).iss, wait=wait)
        if len(signature) != -(-key.size * 4 // 3) or not key.verify(
            raw[:last], _decode(signature)
        ):
            _refuse("its signature is not one of its key (RFC 7515 section 5.2)")
        check_header(_members(header), trust.issuer)
        claims = read_claims(_members(payload), trust.issuer)
        taken = None if trust.issuer.name is not None else self._identities.reserved(claims.subject)
        if taken is not None:
            _refuse(
                f"its sub begins with '{taken}:', which is how others are called; give the issuer a name"
            )
        return Trusted(claims, trust.keys.watch(named.kid, named.alg, key))

    def close(self) -> None:
        """Stop fetching keys. The next token starts it again."""
        for _, keys in self._trusts:
            keys.close()


def _choose(
    trusts: Sequence[Trust], named: _Header, issuer: str, *, wait: bool
) -> tuple[Trust, Key]:
    """Return whose key a token names, and the key: nothing of the token is believed yet but which one it names."""
    trust = next((one for one in trusts if one.issuer.issuer == issuer), None)
    if trust is None:
        _refuse(
            "its iss is no issuer that is trusted, or whose key it names (RFC 8725 section 3.8)"
        )
    key = trust.keys.find(named.kid, named.alg, wait=wait)
    if key is None:
        _refuse("its issuer has no key of its kid, or none for its alg")
    return trust, key


def _source(issuer: Issuer, clock: Callable[[], float]) -> KeySource:
    if issuer.keys is not None:
        return GivenKeys(issuer.keys)
    return FetchedKeys(issuer.jwks_url or "", issuer.algorithms, clock, issuer.proxy)


def _decode(part: bytes) -> bytes:
    """Return what base64url without padding stands for, in its one spelling; Denied for any other."""
    left = len(part) % 4
    if not part or left not in _LAST or part[-1] not in _LAST[left]:
        _refuse(
            "its parts are not base64url in its one spelling (RFC 7515 section 2, RFC 4648 section 3.5)"
        )
    return _base64.decode(b'"' + part.translate(_STANDARD) + _PADDING[left] + b'"')


def _peek(text: bytes, decoder: msgspec.json.Decoder[Any]) -> Any:
    try:
        return decoder.decode(text)
    except (msgspec.MsgspecError, ValueError, RecursionError):  # ValueError: no UTF-8
        _refuse(
            "its header or payload has not what tells its key (RFC 7515 section 4.1, RFC 7519 section 4.1.1)"
        )


def _members(text: bytes) -> dict[str, Any]:
    try:
        return parse_object(text)
    except ValueError as error:
        _refuse(
            f"its header or payload cannot be read in one way alone: {error} (RFC 7519 sections 4 and 7.2)"
        )


def _refuse(why: str) -> NoReturn:
    raise Denied("unknown_credential", why=why)
