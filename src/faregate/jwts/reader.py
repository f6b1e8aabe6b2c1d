"""Reads JWTs of trusted issuers in compact form (RFC 7515 section 7.1), and verifies them.

The law: the cheapest check comes first, so that junk costs little, and nothing in a token is
believed before its signature is verified. Until then, ``alg``, ``kid`` and ``iss`` do no more than
choose the key. The claims are checked in :mod:`faregate.jwts.claims`.
"""

from __future__ import annotations

from itertools import combinations, product
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
# Last characters whose unused bits are zero, by the part's length modulo 4.
_LAST = {0: (ascii_letters + digits + "-_").encode(), 2: b"AQgw", 3: b"AEIMQUYcgkosw048"}
_PADDING = {0: b"", 2: b"==", 3: b"="}
_LONGEST_HEADER = 4096  # characters: some headers carry a certificate
_LONGEST_SIGNATURE = 1400  # characters: RSA with 8,192 bits


class _Header(msgspec.Struct):
    """The header members that choose the key."""

    alg: str
    kid: str | None = None


class _Payload(msgspec.Struct):
    """The claim that chooses among issuers whose keys share a name."""

    iss: str


_base64 = msgspec.json.Decoder(bytes)
_header = msgspec.json.Decoder(_Header)
_payload = msgspec.json.Decoder(_Payload)


class Trusted(NamedTuple):
    """A token with a verified signature and checked claims.

    ``holds``: returns whether its key still counts at an instant, or None if that is unknown.
    It is itself None where the keys never change.
    """

    claims: Claims
    holds: Holds | None


class Trust(NamedTuple):
    """An issuer and the source of its keys."""

    issuer: Issuer
    keys: KeySource


class TrustedIssuers:
    """Reads and verifies the tokens of several issuers.

    ``issuers``: the trusted issuers, each with its own ``iss``, name and secret.
    ``identities``: prefixes of identities that a ``sub`` must not imitate.
    ``clock``: returns UTC epoch seconds.

    Raises InvalidInput if two issuers share an ``iss``, a name or an HMAC secret.
    """

    def __init__(
        self, issuers: Sequence[Issuer], identities: Identities, clock: Callable[[], float]
    ) -> None:
        _check_distinct(issuers)

        self._identities = identities
        self._trusts = [Trust(issuer, _source(issuer, clock)) for issuer in issuers]

    def read(self, raw: bytes, *, wait: bool) -> Trusted:
        """Return a verified token: three parts in base64url, with dots between.

        ``wait``: whether the call may wait for a fetch of keys.

        Raises Denied ``unknown_credential`` for every other text, StoreUnavailable while the keys
        are not known, and WouldWait if a fetch is needed and ``wait`` is False.
        """
        first = raw.find(b".")
        last = raw.rfind(b".")

        # Header and claims are JSON objects: in base64url, an opening brace makes the "e".
        if raw[:1] != b"e" or raw[first + 1 : first + 2] != b"e":
            raise Denied("unknown_credential")
        if first > _LONGEST_HEADER or len(raw) - last > _LONGEST_SIGNATURE:
            _refuse(
                f"its header has more than {_LONGEST_HEADER} characters, "
                "or its signature is longer than any algorithm makes"
            )

        header = _decode(raw[:first])
        named = _peek(header, _header)

        # A look at the keys at hand is cheaper than decoding the payload for its issuer.
        trusts = [
            trust
            for trust in self._trusts
            if named.alg in trust.issuer.algorithms and trust.keys.may_have(named.kid, named.alg)
        ]
        if not trusts:
            _refuse(
                "no trusted issuer has a key of its kid, or accepts its alg (RFC 8725 section 3.1)"
            )

        payload = _decode(raw[first + 1 : last])
        signature = raw[last + 1 :]
        trust, key = _choose(trusts, named, _peek(payload, _payload).iss, wait=wait)

        # The length is compared first: ceil(size * 4 / 3) characters hold the signature.
        expected_length = -(-key.size * 4 // 3)
        if len(signature) != expected_length or not key.verify(raw[:last], _decode(signature)):
            _refuse("its signature was not made with its key (RFC 7515 section 5.2)")

        check_header(_parse(header), trust.issuer)
        claims = read_claims(_parse(payload), trust.issuer)
        self._check_subject(claims.subject, trust.issuer)
        return Trusted(claims, trust.keys.watch(named.kid, named.alg, key))

    def close(self) -> None:
        """Stop fetching keys. The next token starts it again."""
        for _, keys in self._trusts:
            keys.close()

    def _check_subject(self, subject: str, issuer: Issuer) -> None:
        """Raise Denied if the subject of an issuer without a name imitates another identity."""
        if issuer.name is not None:
            return

        prefix = self._identities.reserved(subject)
        if prefix is not None:
            _refuse(
                f"its sub begins with '{prefix}:', a prefix of other identities; "
                "give the issuer a name"
            )


def _check_distinct(issuers: Sequence[Issuer]) -> None:
    if len({issuer.issuer for issuer in issuers}) < len(issuers):
        raise InvalidInput("issuers: two have the same 'iss'; it tells their tokens apart")
    if len({issuer.name and issuer.name.lower() for issuer in issuers}) < len(issuers):
        raise InvalidInput(
            "issuers: give all but one a name of its own, as in Issuer(name='corp', …), so that "
            "no two providers' users have the same identity"
        )

    for issuer, other in combinations(issuers, 2):
        secrets = product(issuer.secrets, other.secrets)
        if any(same_key(mine, theirs) for mine, theirs in secrets):
            raise InvalidInput(
                f"issuers: {issuer.issuer!r} and {other.issuer!r} have the same HMAC secret, "
                "so each can sign as the other"
            )


def _choose(trusts: Sequence[Trust], named: _Header, iss: str, *, wait: bool) -> tuple[Trust, Key]:
    """Return the issuer that a token names, and the named key.

    The token is not verified yet: it chooses among trusted keys, and is believed in nothing else.
    """
    trust = next((trust for trust in trusts if trust.issuer.issuer == iss), None)
    if trust is None:
        _refuse("its iss is not a trusted issuer that has its key (RFC 8725 section 3.8)")

    key = trust.keys.find(named.kid, named.alg, wait=wait)
    if key is None:
        _refuse("its issuer has no key of its kid, or none for its alg")
    return trust, key


def _source(issuer: Issuer, clock: Callable[[], float]) -> KeySource:
    if issuer.keys is not None:
        return GivenKeys(issuer.keys)
    return FetchedKeys(issuer.jwks_url or "", issuer.algorithms, clock, issuer.proxy)


def _decode(part: bytes) -> bytes:
    """Return the bytes of unpadded base64url; Denied for every spelling but the canonical."""
    remainder = len(part) % 4
    if not part or remainder not in _LAST or part[-1] not in _LAST[remainder]:
        _refuse("its parts are not canonical base64url (RFC 7515 section 2, RFC 4648 section 3.5)")
    return _base64.decode(b'"' + part.translate(_STANDARD) + _PADDING[remainder] + b'"')


def _peek(text: bytes, decoder: msgspec.json.Decoder[Any]) -> Any:
    try:
        return decoder.decode(text)
    # Bytes that are not UTF-8 raise a ValueError.
    except (msgspec.MsgspecError, ValueError, RecursionError):
        _refuse(
            "its header or payload lacks the members that choose the key "
            "(RFC 7515 section 4.1, RFC 7519 section 4.1.1)"
        )


def _parse(text: bytes) -> dict[str, Any]:
    try:
        return parse_object(text)
    except ValueError as error:
        _refuse(f"its header or payload is ambiguous JSON: {error} (RFC 7519 sections 4 and 7.2)")


def _refuse(why: str) -> NoReturn:
    raise Denied("unknown_credential", why=why)
