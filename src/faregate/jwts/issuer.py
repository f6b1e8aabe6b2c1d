"""Whose JWTs are trusted, with which keys, and what is asked of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import SplitResult, quote, urlsplit

from faregate.errors import InvalidInput
from faregate.values.identities import KINDS
from faregate.values.instants import parse_span
from faregate.values.names import MAX_ID, check_id, check_name
from faregate.values.networks import PRIVATE, Networks, pack

if TYPE_CHECKING:
    from faregate.jwts.keys import KeySet

Claims = Mapping[str, Any]
Told = (
    str | Sequence[str] | Callable[[Claims], Any]
)  # names of claims, or a function of all of them
Keys = Mapping[str, Any] | str | bytes

ACCESS_TOKEN = ("iss", "exp", "aud", "sub", "client_id", "iat", "jti")  # RFC 9068 section 2.2
NEEDS_EXTRA = "JWTs need the packages of an extra: pip install 'faregate[jwt]'"
ALWAYS = ("iss", "exp", "sub")  # and the one that holds the audience
NO_AUDIENCE = (
    "iss",
    "sub",
    "exp",
    "nbf",
    "iat",
    "jti",
)  # what RFC 7519 section 4.1 has for something else

_LABEL = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}"
_HOST = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}(?:\.{_LABEL})*\.?|[0-9a-f.]*:[0-9a-f:.]*)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LOOPBACK_HOST = re.compile(r"localhost|127(?:\.[0-9]{1,3}){3}|::1")
MOST_LEEWAY = 120.0  # seconds


class Issuer:
    """Somebody whose JWTs open the gate, such as the identity provider of a company.

    ``issuer`` and ``audience`` (a text, or several of which one must be meant) are compared as they are;
    ``audience_claim`` is the claim that holds the latter, ``aud``, or what a provider writes in its place:
    ``client_id``, ``azp``; an ``aud`` that is there as well has to hold it, too. ``algorithms`` are those of JWA
    (RFC 7518, RFC 8037, RFC 9864) that are accepted, either of HMAC or of public keys. The keys are those of
    ``jwks_url``, a JWK set that is fetched over https (http on loopback), or ``keys``: a JWK set as a dict, one public
    key as PEM, or the secret of an HMAC algorithm.

    They are fetched by way of ``proxy``, such as ``http://proxy.example:3128``, if one is given, and never by way of a
    proxy of the environment. ``plain_http=True`` allows ``http`` in ``jwks_url``, for a provider in a private network:
    addresses outside of RFC 1918, RFC 4193 and RFC 6598, and of loopback, are refused when the keys are fetched.

    ``name`` stands before the ``sub`` in the identity of its tokens, as in ``corp:alice``. Of several issuers, one may
    be without a name: its subjects are known by their ``sub`` alone.

    ``typ`` is that of the header; None demands that there is none. ``leeway`` are the seconds, 0 to 120, by which the
    issuer's clock may differ. ``scopes_claim`` names the claim with the scopes, a text with spaces between or a
    list; of several names those that are there are united. ``org_claim`` names the one with the organization's id,
    without which a token is refused; of several names the first that is there counts. A name may lead into members, as
    in ``realm_access.roles``. Either may be a function of the claims that returns what such a claim holds; None
    refuses the token, and an empty list leaves it without scopes.
    ``required_claims`` must be there, ``iss exp aud sub`` in any case. ``resources`` limits the scopes: a function of
    the claims that returns the ids of objects, or None for any. Functions are called at once, and what one raises is
    StoreUnavailable. Networks other than ``allowed_cidr_blocks``, where there are any, are refused. ``manages`` lets
    tokens keep scopes that start with ``gate:``, and so call the management API; what they make is bounded by the
    policy's ``max_lifetime``.

    Raises InvalidInput, naming the argument, for what cannot be, or is not safe (RFC 8725).
    """

    def __init__(
        self,
        issuer: str,
        audience: str | Sequence[str],
        algorithms: Sequence[str],
        *,
        name: str | None = None,
        jwks_url: str | None = None,
        keys: Keys | None = None,
        typ: str | None = "at+jwt",
        leeway: float = 30.0,
        audience_claim: str = "aud",
        scopes_claim: Told = "scope",
        org_claim: Told | None = None,
        required_claims: Sequence[str] = ACCESS_TOKEN,
        resources: Callable[[Claims], Sequence[str] | None] | None = None,
        allowed_cidr_blocks: Sequence[str] = (),
        manages: bool = False,
        proxy: str | None = None,
        plain_http: bool = False,
    ) -> None:
        self.issuer = check_name(issuer, "issuer", MAX_ID)
        if name is not None and (
            not isinstance(name, str) or not _NAME.fullmatch(name) or name.lower() in KINDS
        ):
            raise InvalidInput(
                f"name: 1 to 64 letters, digits, '.', '_' and '-', and none of {', '.join(KINDS)}"
            )
        self.name = name
        self.prefix = (
            f"jwt:{quote(self.issuer, safe='')}/"  # of the names of what its tokens stand for
        )
        self.audiences = frozenset(
            check_id(one, "audience") for one in _texts(audience, "audience")
        )
        if "*" in self.audiences:
            raise InvalidInput(
                "audience: '*' would take tokens that are meant for others; name this API"
            )
        self.algorithms = _algorithms(_texts(algorithms, "algorithms"))
        self.typ = None if typ is None else media_type(check_id(typ, "typ"))
        self.leeway = parse_span(leeway, "leeway")
        if self.leeway > MOST_LEEWAY:
            raise InvalidInput(
                f"leeway: at most {MOST_LEEWAY:.0f} seconds; have the clocks set instead"
            )
        self.audience_claim = _audience_claim(audience_claim)
        self.scopes_claim = _told(scopes_claim, "scopes_claim")
        self.org_claim = None if org_claim is None else _told(org_claim, "org_claim", ordered=True)
        required = [
            check_id(one, "required_claims")
            for one in _texts(required_claims, "required_claims", least=0)
        ]
        if (
            required_claims is ACCESS_TOKEN
        ):  # of RFC 9068, but for the audience where that is in another one
            required.remove("aud")
        self.required_claims = tuple(dict.fromkeys((*ALWAYS, self.audience_claim, *required)))
        if resources is not None and (not callable(resources) or iscoroutinefunction(resources)):
            raise InvalidInput(
                "resources: a plain function of the claims that returns ids of objects, or None"
            )
        self.resources = resources
        blocks = _texts(allowed_cidr_blocks, "allowed_cidr_blocks", least=0)
        self.networks = Networks.parse(blocks, "allowed_cidr_blocks") if blocks else None
        for member, switch in (("manages", manages), ("plain_http", plain_http)):
            if not isinstance(switch, bool):
                raise InvalidInput(
                    f"{member}: True or False itself; a text such as 'False' would count as true"
                )
        self.manages = manages
        self.plain_http = plain_http
        if (jwks_url is None) == (keys is None):
            raise InvalidInput("jwks_url, keys: give one of them")
        if jwks_url is None and (proxy is not None or plain_http):
            raise InvalidInput(
                "proxy, plain_http: only with jwks_url; nothing is fetched for keys that are given"
            )
        self.jwks_url = (
            None
            if jwks_url is None
            else _check_url(jwks_url, self.algorithms, plain_http=plain_http)
        )
        self.proxy = None if proxy is None else _check_proxy(proxy, self.jwks_url)
        self.keys = None if keys is None else _given_keys(keys, self.algorithms)

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The secrets with which its tokens are signed; none where it has public keys."""
        return () if self.keys is None else self.keys.secrets

    def __repr__(self) -> str:
        return f"Issuer({self.issuer!r})"


def media_type(text: str) -> str:
    """Return a ``typ`` in the form in which two are compared: RFC 7515 section 4.1.9, RFC 2045 section 5.1."""
    return text.lower().removeprefix("application/")


def _audience_claim(value: object) -> str:
    name = check_id(value, "audience_claim")
    if name in NO_AUDIENCE:
        raise InvalidInput(
            f"audience_claim: '{name}' does not say for whom a token is (RFC 7519 section 4.1), and would take tokens "
            "that are meant for others; name the claim that does"
        )
    return name


def _told(
    value: object, member: str, *, ordered: bool = False
) -> tuple[str, ...] | Callable[[Claims], Any]:
    if callable(value):
        if iscoroutinefunction(value):
            raise InvalidInput(
                f"{member}: a plain function of the claims; nothing awaits an async one"
            )
        return cast("Callable[[Claims], Any]", value)

    if ordered and isinstance(value, set | frozenset):
        raise InvalidInput(
            f"{member}: a list of names; which of a set is the first differs between processes"
        )
    return tuple(check_id(one, member) for one in _texts(value, member))


def _texts(value: object, member: str, least: int = 1) -> list[str]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list | tuple | set | frozenset):
        raise InvalidInput(f"{member}: expected a text or a list of texts")
    texts = list(cast("Sequence[str]", listed))
    if len(texts) < least:
        raise InvalidInput(f"{member}: is empty")
    return texts


def _algorithms(names: Sequence[object]) -> tuple[str, ...]:
    known = _load().ALGORITHMS
    for name in names:
        if not isinstance(name, str) or name not in known:
            raise InvalidInput(
                f"algorithms: {name!r} is none of {', '.join(known)} (RFC 8725 section 3.1)"
            )
    listed = tuple(dict.fromkeys(str(name) for name in names))
    if len({name.startswith("HS") for name in listed}) > 1:
        raise InvalidInput(
            "algorithms: HMAC and public keys do not go together: a public key would be a secret that all know "
            "(RFC 8725 section 2.1); make two issuers"
        )
    return listed


def _check_url(url: object, algorithms: Sequence[str], *, plain_http: bool) -> str:
    """Return the address of a JWK set if it is safe to be asked."""
    if algorithms[0].startswith("HS"):
        raise InvalidInput("jwks_url: a secret is not fetched; give it as keys")
    parts = _split(url, "jwks_url: expected https://host/path")
    if parts.username is not None or parts.fragment:
        raise InvalidInput("jwks_url: expected https://host/path, without user and fragment")
    if parts.scheme == "https":
        if plain_http:
            raise InvalidInput(
                "plain_http: only with an http jwks_url; this one is https, leave plain_http out"
            )
        return str(url)

    host = str(parts.hostname)
    if parts.scheme != "http":
        raise InvalidInput("jwks_url: expected https://host/path")
    if not plain_http and not LOOPBACK_HOST.fullmatch(host):
        raise InvalidInput(
            "jwks_url: https, or whoever is on the way hands out keys; http on loopback, or with plain_http=True in a "
            "private network"
        )
    if pack(host) is not None and not PRIVATE.admit(host):
        raise InvalidInput(
            "jwks_url: https for an address that is of no private network; plain_http does not allow it"
        )
    return str(url)


def _check_proxy(url: object, fetched: str | None) -> str:
    """Return the address of an HTTP proxy. What is wrong is told without it: a password may be in there."""
    if fetched is not None and fetched.lower().startswith("http:"):
        raise InvalidInput(
            "proxy: only with an https jwks_url; a proxy could change what passes in plain http"
        )
    expected = "proxy: expected http://host:port, or http://user:password@host:port with both percent-encoded"
    parts = _split(url, expected)
    if parts.scheme != "http" or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise InvalidInput(expected)
    return str(url)


def _split(url: object, expected: str) -> SplitResult:
    """Return the parts of an address with a host that can be asked; InvalidInput with what was expected."""
    try:
        parts = urlsplit(check_id(url, "url"))
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise InvalidInput(expected) from None
    if not _HOST.fullmatch(host) or port == 0 or not str(url).isascii() or " " in str(url):
        raise InvalidInput(f"{expected}, in ASCII and without space")
    return parts


def _given_keys(keys: object, algorithms: Sequence[str]) -> KeySet:
    return cast("KeySet", _load().given_keys(keys, algorithms))


def _load() -> Any:
    """Return the module of keys, which the packages of the extra ``jwt`` are needed for."""
    try:
        from faregate.jwts import keys  # noqa: PLC0415
    except ImportError:
        raise InvalidInput(f"algorithms: {NEEDS_EXTRA}") from None
    return keys
