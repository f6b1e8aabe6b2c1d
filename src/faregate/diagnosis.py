"""Looking for what is wrong around a store, without mending anything, and without a gate, which might not open.

Each check yields what it found: ``ok``, a ``note`` of something that may be meant so, a ``fault``, or ``down`` where
the store cannot answer at all.
"""

from __future__ import annotations

import os
import re
import stat
import time
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from faregate.credentials.share_tokens import ShareTokens
from faregate.credentials.signing_secret import SigningSecret
from faregate.errors import InvalidInput, StoreUnavailable
from faregate.stores.sqlite.database import path_of
from faregate.stores.sqlite.page import read_page
from faregate.stores.sqlite.status import Status, read_status
from faregate.values.client_address import TrustedProxies
from faregate.values.names import abbreviated

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from faregate.jwts.issuer import Issuer

OK: Literal["ok"] = "ok"
NOTE: Literal["note"] = "note"
FAULT: Literal["fault"] = "fault"
DOWN: Literal["down"] = "down"

MOUNTS = Path("/proc/self/mountinfo")
_SKEW = 60.0  # seconds that clocks may be apart
_OVER_A_NETWORK = re.compile(
    r"(fuse\.)?(nfs4?|cifs|smb3|smbfs|9p|afs|beegfs|ceph|coda|davfs2?|gfs2|glusterfs|gpfs|lustre|ocfs2|orangefs|osxfs|"
    r"prl_fs|pvfs2|rclone|s3fs|sshfs|vboxsf|virtiofs)"
)
_PRIVATE = tuple(map(ip_network, ("10.0.0.0/8", "fc00::/7", "fe80::/10")))
_MANY = {
    4: 2**24,
    6: 2**112,
}  # addresses: a /8, a /16; beyond that it is a good part of the internet
_NAT64 = ip_network("64:ff9b::/96")  # which holds all of IPv4 (RFC 6052)


class Finding(msgspec.Struct, frozen=True):
    """What one check found, and what to do about it."""

    check: str
    verdict: Literal["ok", "note", "fault", "down"]
    words: str


def examine(url: str, settings: Mapping[str, Any], mounts: Path = MOUNTS) -> list[Finding]:
    """Return what is found about a store of SQLite and the gate's ``settings``, which are arguments of Gate.

    Looked at are ``trusted_proxies``, ``forwarded_header``, ``secret``, ``brand``, ``issuers`` and ``clock``;
    ``mounts`` is Linux's table of what is mounted where. InvalidInput for a URL that is none.
    """
    path = path_of(url)
    if path is None:
        raise InvalidInput("store: one in memory has nothing around it to look at")
    findings = [
        *_files(path),
        *_file_system(path, mounts),
    ]  # before the store makes files of its own
    try:
        status = read_status(url, thorough=True)
    except InvalidInput as error:
        findings.append(Finding("store", FAULT, str(error).removeprefix("store: ")))
    except StoreUnavailable as error:
        findings.append(Finding("store", DOWN, error.cause))
    else:
        clock = settings.get("clock", time.time)
        findings += [*_store(path, status), *_page(path, status), *_clock(status, float(clock()))]
    issuers = [_issuer(issuer) for issuer in settings.get("issuers", ())]
    return [*findings, *_proxies(settings), *_secret(path, settings), *issuers]


def _store(path: str, status: Status) -> Iterator[Finding]:
    if status.damage is not None:
        yield Finding("store", FAULT, f"{path} is damaged ({status.damage}): restore a backup")
    elif status.missing:
        yield Finding(
            "store", FAULT, f"{path} lacks {abbreviated(list(status.missing))}: restore a backup"
        )
    elif status.current and status.sequence != status.last:
        words = f"{path} counts {status.sequence} changes, its feed ends with {status.last}: restore a backup"
        yield Finding("store", FAULT, words)
    elif status.journal != "wal":
        yield Finding(
            "store", NOTE, f"{path} is not in WAL mode, so readers and writers wait for each other"
        )
    else:
        yield Finding("store", OK, f"{path} answers")
    if status.version is None:
        words = (
            "no version is told" if status.missing else "there are none: is this the right file?"
        )
        yield Finding("tables", FAULT, words)
    elif status.current:
        yield Finding("tables", OK, f"version {status.version}")
    elif status.version < status.needed:
        words = f"version {status.version} is too old, this faregate needs {status.needed}: run 'faregate db upgrade'"
        yield Finding("tables", FAULT, words)
    else:
        words = f"version {status.version} is of a newer faregate than this one, which needs {status.needed}: update it"
        yield Finding("tables", FAULT, words)


def _page(path: str, status: Status) -> Iterator[Finding]:
    """Read after the feed: what the feed held then, the page has to tell."""
    page = f"{path}-page"
    try:
        announced = read_page(path)
    except FileNotFoundError:
        words = f"{page} is missing, so every request reads the feed: any change makes it anew, or a restart"
        yield Finding("page", FAULT, words)
    except OSError as error:
        yield Finding("page", FAULT, f"{page} cannot be read: {error.strerror or error}")
    else:
        if announced < status.last:
            words = (
                f"{page} is behind the feed ({announced} of {status.last}): restart the application"
            )
            yield Finding("page", FAULT, words)
        elif not os.access(page, os.W_OK):
            yield Finding(
                "page",
                NOTE,
                f"{page} cannot be written by this user, who therefore can change nothing",
            )
        else:
            yield Finding("page", OK, f"announces {announced}, the feed is at {status.last}")


def _clock(status: Status, now: float) -> Iterator[Finding]:
    latest = now if status.latest is None else status.latest.timestamp()
    newest = latest if status.newest is None else status.newest.timestamp()
    if latest - now > _SKEW:
        words = f"is {latest - now:,.0f} s behind the newest change: the expired may pass for alive; set the clock"
        yield Finding("clock", FAULT, words)
    elif latest - newest > _SKEW:
        words = f"the newest change is dated {latest - newest:,.0f} s before an earlier one: some clock is behind"
        yield Finding("clock", FAULT, words)
    else:
        yield Finding("clock", OK, "is not behind the newest change")


def _files(path: str) -> Iterator[Finding]:
    """Look at who may read and replace the files: what is not there is told of by others."""
    found = [*_folders(path), *_modes(path)]
    yield from found or [Finding("files", OK, f"{path} and what lies beside it are private")]


def _folders(path: str) -> Iterator[Finding]:
    for folder in Path(path).parents:
        mode = folder.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            words = f"{folder} is for everybody to change, who so may replace the store: chmod o-w {folder}"
            yield Finding("files", FAULT, words)
    for place in (Path(path).parent, path):
        if not os.access(place, os.R_OK | os.W_OK):
            yield Finding(
                "files",
                NOTE,
                f"{place} cannot be read and written by this user, as SQLite needs it",
            )


def _modes(path: str) -> Iterator[Finding]:
    owners: set[int] = set()
    for file in (path, f"{path}-wal", f"{path}-shm", f"{path}-page", f"{path}.key"):
        try:
            found = Path(file).stat()
        except FileNotFoundError:
            continue
        owners.add(found.st_uid)
        bits = found.st_mode & 0o077
        if not bits or not stat.S_ISREG(found.st_mode):
            continue
        what = f"to {'change' if bits & 0o022 else 'read'} ({found.st_mode & 0o777:04o})"
        if bits & 0o007:
            yield Finding("files", FAULT, f"{file} is for everybody {what}: chmod 600 {file}")
        else:
            yield Finding("files", NOTE, f"{file} is for its group {what}")
    folder = Path(path).parent.stat().st_uid
    if owners == {0} and folder:
        words = f"{path} is root's in a folder of user {folder}: if the application runs as that user, chown them"
        yield Finding("files", NOTE, words)
    if len(owners) > 1:
        yield Finding(
            "files",
            FAULT,
            f"{path} and what lies beside it belong to different users: chown them alike",
        )


def _file_system(path: str, mounts: Path) -> Iterator[Finding]:
    try:
        kind = _kind_of(path, mounts.read_text(errors="surrogateescape"))
    except OSError:
        kind = None
    if kind is None:
        yield Finding(
            "file system",
            NOTE,
            "cannot be told here; SQLite's files do not belong on one of a network",
        )
    elif _OVER_A_NETWORK.fullmatch(kind):
        words = f"{path} lies on {kind}, a network's: SQLite's locks and the page fail there; use a disk of this host"
        yield Finding("file system", FAULT, words)
    elif kind.startswith("fuse"):
        yield Finding(
            "file system", NOTE, f"{path} lies on {kind}: is that a disk of this host, with locks?"
        )
    else:
        yield Finding("file system", OK, f"{path} lies on {kind}")


def _kind_of(path: str, mounts: str) -> str | None:
    """Return the type of the file system of a path, by proc(5)'s ``mountinfo``; what is mounted last hides the rest."""
    best = (-1, "")
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if len(fields) < 5:
            continue
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        if (path == point or path.startswith(point.rstrip("/") + "/")) and len(point) >= best[0]:
            best = (len(point), kinds[0])
    return best[1] or None


def _proxies(settings: Mapping[str, Any]) -> Iterator[Finding]:
    trusted = settings.get("trusted_proxies", ())
    try:
        proxies = TrustedProxies(trusted, settings.get("forwarded_header", "x-forwarded-for"))
    except InvalidInput as error:
        yield Finding("proxies", FAULT, str(error))
        return
    if not trusted:
        words = "none is trusted: the client is who connects (say here which ones the application trusts)"
        yield Finding("proxies", OK, words)
    elif wide := _wide(proxies.networks.blocks):
        words = f"{abbreviated(wide)} holds the whole internet, or a good part: anybody there may claim any address; name yours"
        yield Finding("proxies", FAULT, words)
    else:
        words = (
            f"trusted are {abbreviated([str(one) for one in trusted])}: a request from there without {proxies.header} has no "
            "known address (waitress drops that header unless told)"
        )
        yield Finding("proxies", OK, words)


def _wide(blocks: Iterable[str]) -> list[str]:
    """Return the networks that are far too many addresses to be somebody's proxies, taken together."""
    networks = [_as_ipv4(ip_network(block)) for block in blocks]
    ranges: list[IPv4Network | IPv6Network] = [
        *collapse_addresses(one for one in networks if isinstance(one, IPv4Network)),
        *collapse_addresses(one for one in networks if isinstance(one, IPv6Network)),
    ]
    public = [one for one in ranges if not _is_private(one)]
    return [
        str(one)
        for version, most in _MANY.items()
        if sum(one.num_addresses for one in public if one.version == version) > most
        for one in sorted(
            (one for one in public if one.version == version), key=lambda one: one.prefixlen
        )
    ]


def _as_ipv4(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    if (
        network.version == 6
        and network.network_address in _NAT64
        and network.prefixlen >= _NAT64.prefixlen
    ):
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


def _is_private(network: IPv4Network | IPv6Network) -> bool:
    return any(
        network.network_address in private and network.broadcast_address in private
        for private in _PRIVATE
        if private.version == network.version
    )


def _secret(path: str, settings: Mapping[str, Any]) -> Iterator[Finding]:
    try:
        theirs = [each for one in settings.get("issuers", ()) for each in one.secrets]
        secret = SigningSecret(settings.get("secret"), path, theirs)
        ShareTokens(secret, settings.get("brand", "fg"))
        number = len(secret.known())
    except InvalidInput as error:
        yield Finding("secret", FAULT, str(error))
    except StoreUnavailable as error:
        yield Finding("secret", FAULT, error.cause)
    else:
        if secret.given:
            yield Finding("secret", OK, f"{number} given, each long enough")
        elif number:
            yield Finding("secret", OK, f"{path}.key is long enough")
        else:
            yield Finding("secret", OK, f"{path}.key is made when a share is first redeemed")


def _issuer(issuer: Issuer) -> Finding:
    """Look for the keys of an issuer, which are fetched for that if they are not given."""
    keys, place = issuer.keys, "as given"
    if issuer.jwks_url is not None:
        from faregate.jwts.download import shown  # noqa: PLC0415  it needs the packages of the extra, as the issuer did
        from faregate.jwts.jwks import fetch  # noqa: PLC0415

        place = f"at {issuer.jwks_url}"
        place += f", by way of the proxy {shown(issuer.proxy)}" if issuer.proxy is not None else ""
        try:
            keys = fetch(issuer.jwks_url, issuer.algorithms, issuer.proxy)
        except Exception as error:  # noqa: BLE001  whatever it is, it is what was looked for
            return Finding("issuer", FAULT, f"{issuer.issuer}: no keys {place}: {error}")
    skipped = abbreviated(list(keys.skipped)) if keys is not None else ""
    number = len(keys) if keys is not None else 0
    words = f"{issuer.issuer}: {number} usable {'key' if number == 1 else 'keys'} {place}"
    words += f", not usable {skipped}" if skipped else ""
    if not number:
        return Finding("issuer", FAULT, words)
    if issuer.plain_http:
        words += "; over plain http, where anybody on the way can put in keys of their own: is that network yours alone?"
        return Finding("issuer", NOTE, words)
    return Finding("issuer", OK, words)
