"""Settings of a trusted issuer: its keys, and the rules for its tokens.

The law: every argument is checked when the issuer is made, and an argument that would be unsafe
under RFC 8725 is refused. Nothing is fetched here.
"""

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

# Names of claims, or a function of all claims.
ClaimSelector = str | Sequence[str] | Callable[[Claims], Any]
Keys = Mapping[str, Any] | str | bytes

ACCESS_TOKEN = ("iss", "exp", "aud", "sub", "client_id", "iat", "jti")  # RFC 9068 section 2.2
NEEDS_EXTRA = "JWTs need the packages of an extra: pip install 'faregate[jwt]'"

# Required in every token, beside the claim that holds the audience.
ALWAYS = ("iss", "exp", "sub")

# RFC 7519 section 4.1 gives these claims another meaning.
NO_AUDIENCE = ("iss", "sub", "exp", "nbf", "iat", "jti")

_LABEL = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}"
_HOST = re.compile(rf"(?=.{{1,253}}\Z)(?:{_LABEL}(?:\.{_LABEL})*\.?|[0-9a-f.]*:[0-9a-f:.]*)")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
LOOPBACK_HOST = re.compile(r"localhost|127(?:\.[0-9]{1,3}){3}|::1")
MOST_LEEWAY = 120.0  # seconds


class Issuer:
    """Describes an issuer whose JWTs open the gate, such as a company's identity provider.

    Example::

        Issuer(
            "https://id.example.com/",
            "https://api.example.com",
            ["RS256"],
            name="corp",
            jwks_url="https://id.example.com/keys",
        )

    Signature:

    ``issuer``: the exact ``iss`` of its tokens.
    ``algorithms``: accepted algorithms of JWA (RFC 7518, RFC 8037, RFC 9864); either HMAC or public
    keys, never both.
    ``jwks_url``: address of a JWK set, fetched over https, or over http on loopback.
    ``keys``: instead of ``jwks_url``, a JWK set as a dict, a public key as PEM, or an HMAC secret.
    ``proxy``: proxy for the fetch, such as ``http://proxy.example:3128``. Proxies of the
    environment are never used.
    ``plain_http``: True allows ``http`` in ``jwks_url``, for a provider in a private network. The
    fetch refuses addresses outside of loopback, RFC 1918, RFC 4193 and RFC 6598.

    Identity:

    ``name``: prefix of the ``sub`` in identities, as in ``corp:alice``. At most one issuer goes
    without; its subjects are known by their ``sub`` alone.
    ``org_claim``: claim with the organization's id, without which a token is refused. Of several
    names, the first that is present counts.

    Rules:

    ``audience``: exact audiences; a token must be meant for at least one.
    ``audience_claim``: claim with the audience: ``aud``, or the provider's substitute, such as
    ``client_id`` or ``azp``. An ``aud`` that is also present is checked, too.
    ``typ``: required ``typ`` of the header; None demands a header without it.
    ``leeway``: tolerated difference of the issuer's clock, 0 to 120 seconds.
    ``required_claims``: claims without which a token is refused; ``iss exp sub`` and the audience
    are required in any case.
    ``allowed_cidr_blocks``: networks from which its tokens are accepted; empty means all.

    Permissions:

    ``scopes_claim``: claim with the scopes, a list or a string with spaces between. The scopes of
    several claims are united.
    ``resources``: function of the claims that returns the ids of the objects to which the scopes
    are limited, or None for every object.
    ``manages``: True keeps scopes that start with ``gate:``, so that tokens may call the management
    API. The policy's ``max_lifetime`` bounds the credentials that they create.

    ``scopes_claim`` and ``org_claim`` take a name, several names, or a function of the claims that
    returns the value. A dotted name leads into members, as in ``realm_access.roles``. A function
    that returns None refuses the token; an empty list leaves it without scopes. Functions are plain
    and called at once; an exception in a function becomes StoreUnavailable.

    Raises InvalidInput, naming the argument, for a value that is impossible or unsafe (RFC 8725).
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
        scopes_claim: ClaimSelector = "scope",
        org_claim: ClaimSelector | None = None,
        required_claims: Sequence[str] = ACCESS_TOKEN,
        resources: Callable[[Claims], Sequence[str] | None] | None = None,
        allowed_cidr_blocks: Sequence[str] = (),
        manages: bool = False,
        proxy: str | None = None,
        plain_http: bool = False,
    ) -> None:
        self.issuer = check_name(issuer, "issuer", MAX_ID)
        self.name = _identity_name(name)

        # Every record id of its tokens starts with this prefix.
        self.prefix = f"jwt:{quote(self.issuer, safe='')}/"

        self.audiences = _audiences(audience)
        self.algorithms = _algorithms(_strings(algorithms, "algorithms"))
        self.typ = None if typ is None else media_type(check_id(typ, "typ"))
        self.leeway = _leeway(leeway)
        self.audience_claim = _audience_claim(audience_claim)
        self.scopes_claim = _selector(scopes_claim, "scopes_claim")
        self.org_claim = None
        if org_claim is not None:
            self.org_claim = _selector(org_claim, "org_claim", ordered=True)
        self.required_claims = _required_claims(required_claims, self.audience_claim)
        self.resources = _resources(resources)

        blocks = _strings(allowed_cidr_blocks, "allowed_cidr_blocks", least=0)
        self.networks = None
        if blocks:
            self.networks = Networks.parse(blocks, "allowed_cidr_blocks")

        self.manages = _switch(manages, "manages")
        self.plain_http = _switch(plain_http, "plain_http")

        if (jwks_url is None) == (keys is None):
            raise InvalidInput("jwks_url, keys: give either, and not both")
        if jwks_url is None and (proxy is not None or plain_http):
            raise InvalidInput("proxy, plain_http: only with jwks_url; given keys are not fetched")

        self.jwks_url = None
        if jwks_url is not None:
            self.jwks_url = _check_url(jwks_url, self.algorithms, plain_http=plain_http)
        self.proxy = None
        if proxy is not None:
            self.proxy = _check_proxy(proxy, self.jwks_url)
        self.keys = None
        if keys is not None:
            self.keys = _given_keys(keys, self.algorithms)

    @property
    def secrets(self) -> tuple[bytes, ...]:
        """The HMAC secrets that sign its tokens; empty for public keys."""
        if self.keys is None:
            return ()
        return self.keys.secrets

    def __repr__(self) -> str:
        return f"Issuer({self.issuer!r})"


def media_type(text: str) -> str:
    """Return a ``typ`` in comparable form (RFC 7515 section 4.1.9, RFC 2045 section 5.1).

    >>> media_type("application/AT+JWT")
    'at+jwt'
    """
    return text.lower().removeprefix("application/")


def _identity_name(name: object) -> str | None:
    if name is None:
        return None

    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.lower() in KINDS:
        raise InvalidInput(
            f"name: 1 to 64 letters, digits, '.', '_' and '-', and none of {', '.join(KINDS)}"
        )
    return name


def _audiences(audience: object) -> frozenset[str]:
    names = frozenset(check_id(name, "audience") for name in _strings(audience, "audience"))
    if "*" in names:
        raise InvalidInput(
            "audience: '*' would accept tokens that are meant for others; name this API"
        )
    return names


def _leeway(value: float) -> float:
    leeway = parse_span(value, "leeway")
    if leeway > MOST_LEEWAY:
        raise InvalidInput(
            f"leeway: at most {MOST_LEEWAY:.0f} seconds; synchronize the clocks instead"
        )
    return leeway


def _audience_claim(value: object) -> str:
    name = check_id(value, "audience_claim")
    if name in NO_AUDIENCE:
        raise InvalidInput(
            f"audience_claim: '{name}' does not hold an audience (RFC 7519 section 4.1), and would "
            "accept tokens that are meant for others; name the claim that does"
        )
    return name


def _required_claims(names: Sequence[str], audience_claim: str) -> tuple[str, ...]:
    required = [
        check_id(name, "required_claims") for name in _strings(names, "required_claims", least=0)
    ]

    # The default of RFC 9068 includes aud, which another audience claim replaces.
    if names is ACCESS_TOKEN:
        required.remove("aud")
    return tuple(dict.fromkeys((*ALWAYS, audience_claim, *required)))


def _resources(
    function: Callable[[Claims], Sequence[str] | None] | None,
) -> Callable[[Claims], Sequence[str] | None] | None:
    if function is not None and (not callable(function) or iscoroutinefunction(function)):
        raise InvalidInput(
            "resources: a plain function of the claims that returns ids of objects, or None"
        )
    return function


def _switch(value: object, argument: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidInput(
            f"{argument}: expected True or False; a text such as 'False' would count as true"
        )
    return value


def _selector(
    value: object, argument: str, *, ordered: bool = False
) -> tuple[str, ...] | Callable[[Claims], Any]:
    """Return names of claims as a tuple, or a function of the claims as it is."""
    if callable(value):
        if iscoroutinefunction(value):
            raise InvalidInput(
                f"{argument}: a plain function of the claims; an async function is not awaited"
            )
        return cast("Callable[[Claims], Any]", value)

    if ordered and isinstance(value, set | frozenset):
        raise InvalidInput(
            f"{argument}: expected a list of names; the order of a set differs between processes"
        )
    return tuple(check_id(name, argument) for name in _strings(value, argument))


def _strings(value: object, argument: str, least: int = 1) -> list[str]:
    listed = [value] if isinstance(value, str) else value
    if not isinstance(listed, list | tuple | set | frozenset):
        raise InvalidInput(f"{argument}: expected a text or a list of texts")

    strings = list(cast("Sequence[str]", listed))
    if len(strings) < least:
        raise InvalidInput(f"{argument}: is empty")
    return strings


def _algorithms(names: Sequence[object]) -> tuple[str, ...]:
    known = _load().ALGORITHMS
    for name in names:
        if not isinstance(name, str) or name not in known:
            raise InvalidInput(
                f"algorithms: {name!r} is none of {', '.join(known)} (RFC 8725 section 3.1)"
            )

    algorithms = tuple(dict.fromkeys(str(name) for name in names))
    if len({name.startswith("HS") for name in algorithms}) > 1:
        raise InvalidInput(
            "algorithms: HMAC and public keys do not go together; everybody could sign with a "
            "public key as HMAC secret (RFC 8725 section 2.1); make two issuers"
        )
    return algorithms


def _check_url(url: object, algorithms: Sequence[str], *, plain_http: bool) -> str:
    """Return the address of a JWK set if a fetch from it is safe."""
    if algorithms[0].startswith("HS"):
        raise InvalidInput("jwks_url: an HMAC secret is not fetched; give it as keys")

    parts = _split(url, "jwks_url: expected https://host/path")
    if parts.username is not None or parts.fragment:
        raise InvalidInput("jwks_url: expected https://host/path, without user and fragment")
    if parts.scheme == "https":
        if plain_http:
            raise InvalidInput(
                "plain_http: only with an http jwks_url; leave plain_http out for https"
            )
        return str(url)

    host = str(parts.hostname)
    if parts.scheme != "http":
        raise InvalidInput("jwks_url: expected https://host/path")
    if not plain_http and not LOOPBACK_HOST.fullmatch(host):
        raise InvalidInput(
            "jwks_url: https is required, because plain http lets the network replace the keys; "
            "http only on loopback, or with plain_http=True in a private network"
        )

    # A host name is resolved, and checked again, at each fetch.
    if pack(host) is not None and not PRIVATE.admit(host):
        raise InvalidInput(
            "jwks_url: https is required, because the address is of no private network; "
            "plain_http does not allow it"
        )
    return str(url)


def _check_proxy(url: object, jwks_url: str | None) -> str:
    """Return the address of an HTTP proxy. Errors never quote it: it may contain a password."""
    if jwks_url is not None and jwks_url.lower().startswith("http:"):
        raise InvalidInput(
            "proxy: only with an https jwks_url; a proxy could change keys in plain http"
        )

    expected = (
        "proxy: expected http://host:port, or http://user:password@host:port "
        "with both percent-encoded"
    )
    parts = _split(url, expected)
    if parts.scheme != "http" or parts.path not in ("", "/") or parts.query or parts.fragment:
        raise InvalidInput(expected)
    return str(url)


def _split(url: object, expected: str) -> SplitResult:
    """Return the parts of an address with a valid host; InvalidInput with the expected form."""
    try:
        parts = urlsplit(check_id(url, "url"))
        host = parts.hostname or ""
        port = parts.port
    except ValueError:
        raise InvalidInput(expected) from None

    if not _HOST.fullmatch(host) or port == 0 or not str(url).isascii() or " " in str(url):
        raise InvalidInput(f"{expected}, in ASCII and without space")
    return parts


def _given_keys(keys: object, algorithms: Sequence[str]) -> KeySet:
    return cast("KeySet", _load().given_keys(keys, algorithms))


def _load() -> Any:
    """Return the module of keys; InvalidInput without the packages of the extra ``jwt``."""
    # Imported late, so that gates without issuers run without the extra.
    try:
        from faregate.jwts import keys  # noqa: PLC0415
    except ImportError:
        raise InvalidInput(f"algorithms: {NEEDS_EXTRA}") from None
    return keys
