"""Looks for problems around a store.

It repairs nothing, and it needs no gate: a gate might not open. Each check yields findings. The
verdict of a finding is ``ok``; ``note`` for a state that may be intended; ``fault`` for a problem;
or ``down`` for a store that does not answer.
"""

from __future__ import annotations

import os
import re
import stat
import time
from ipaddress import ip_network
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
    from collections.abc import Iterator, Mapping

    from faregate.jwts.issuer import Issuer
    from faregate.jwts.keys import KeySet

OK: Literal["ok"] = "ok"
NOTE: Literal["note"] = "note"
FAULT: Literal["fault"] = "fault"
DOWN: Literal["down"] = "down"

MOUNTS = Path("/proc/self/mountinfo")
_SKEW = 60.0  # seconds that clocks may differ
_NETWORK_FILE_SYSTEM = re.compile(
    r"(fuse\.)?(nfs4?|cifs|smb3|smbfs|9p|afs|beegfs|ceph|coda|davfs2?|gfs2|glusterfs|gpfs|lustre"
    r"|ocfs2|orangefs|osxfs|prl_fs|pvfs2|rclone|s3fs|sshfs|vboxsf|virtiofs)"
)

# Networks of these may be of any size: nobody on the internet has such an address.
_PRIVATE = tuple(map(ip_network, ("10.0.0.0/8", "fc00::/7", "fe80::/10")))

# By IP version, the prefix length of the largest network that may belong to somebody's proxies.
_SHORTEST_PREFIX = {4: 8, 6: 16}


class Finding(msgspec.Struct, frozen=True):
    """The result of a check: its verdict, and in words the state and the remedy."""

    check: str
    verdict: Literal["ok", "note", "fault", "down"]
    words: str


def examine(url: str, settings: Mapping[str, Any], mounts: Path = MOUNTS) -> list[Finding]:
    """Return the findings about a SQLite store and a gate's settings.

    ``settings`` are arguments of Gate; ``trusted_proxies``, ``forwarded_header``, ``secret``,
    ``brand``, ``issuers`` and ``clock`` are examined. ``mounts`` is Linux's table of mounted file
    systems. Raises InvalidInput if ``url`` is not the URL of a store in a file::

        for finding in examine("sqlite:///gate.db", {"trusted_proxies": ["10.0.0.0/8"]}):
            print(finding.verdict, finding.check, finding.words)
    """
    path = path_of(url)
    if path is None:
        raise InvalidInput("store: expected a store in a file; nothing surrounds a store in memory")

    # Before the store is read, which creates files of its own.
    findings = [*_files(path), *_file_system(path, mounts)]

    try:
        status = read_status(url, thorough=True)
    except InvalidInput as error:
        findings.append(Finding("store", FAULT, str(error).removeprefix("store: ")))
    except StoreUnavailable as error:
        findings.append(Finding("store", DOWN, error.cause))
    else:
        clock = settings.get("clock", time.time)
        findings += [_store(path, status), _tables(status)]
        findings += [_page(path, status), _clock(status, float(clock()))]

    findings += [_proxies(settings), _secret(path, settings)]
    findings += [_issuer(issuer) for issuer in settings.get("issuers", ())]
    return findings


def _files(path: str) -> list[Finding]:
    """Check the permissions of the files; missing files are reported by other checks."""
    findings = [*_folders(path), *_access(path), *_modes(path)]
    return findings or [Finding("files", OK, f"{path} and the files beside it are private")]


def _folders(path: str) -> Iterator[Finding]:
    for folder in Path(path).parents:
        mode = folder.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            words = (
                f"{folder} is for everybody to change, and so anybody may replace the store: "
                f"chmod o-w {folder}"
            )
            yield Finding("files", FAULT, words)


def _access(path: str) -> Iterator[Finding]:
    for place in (Path(path).parent, path):
        if not os.access(place, os.R_OK | os.W_OK):
            words = f"{place} cannot be read and written by this user, but SQLite needs both"
            yield Finding("files", NOTE, words)


def _modes(path: str) -> Iterator[Finding]:
    owners: set[int] = set()
    for file in (path, f"{path}-wal", f"{path}-shm", f"{path}-page", f"{path}.key"):
        try:
            status = Path(file).stat()
        except FileNotFoundError:
            continue

        owners.add(status.st_uid)
        if stat.S_ISREG(status.st_mode):
            yield from _mode(file, stat.S_IMODE(status.st_mode))

    folder_owner = Path(path).parent.stat().st_uid
    if owners == {0} and folder_owner:
        words = (
            f"{path} is root's in a folder of user {folder_owner}: "
            "if the application runs as that user, chown the files"
        )
        yield Finding("files", NOTE, words)

    if len(owners) > 1:
        words = f"{path} and the files beside it belong to different users: chown them to one user"
        yield Finding("files", FAULT, words)


def _mode(file: str, mode: int) -> Iterator[Finding]:
    access = "change" if mode & 0o022 else "read"
    if mode & 0o007:
        words = f"{file} is for everybody to {access} ({mode:04o}): chmod 600 {file}"
        yield Finding("files", FAULT, words)
    elif mode & 0o077:
        yield Finding("files", NOTE, f"{file} is for its group to {access} ({mode:04o})")


def _file_system(path: str, mounts: Path) -> Iterator[Finding]:
    try:
        kind = _file_system_type(path, mounts.read_text(errors="surrogateescape"))
    except OSError:
        kind = None

    if kind is None:
        verdict: Literal["ok", "note", "fault"] = NOTE
        words = "cannot be determined here; keep SQLite's files off network file systems"
    elif _NETWORK_FILE_SYSTEM.fullmatch(kind):
        verdict = FAULT
        words = (
            f"{path} is on {kind}, a network file system: SQLite's locks and the page fail there; "
            "use a disk of this host"
        )
    elif kind.startswith("fuse"):
        verdict = NOTE
        words = f"{path} is on {kind}: is that a disk of this host, with locks?"
    else:
        verdict = OK
        words = f"{path} is on {kind}"
    yield Finding("file system", verdict, words)


def _file_system_type(path: str, mounts: str) -> str | None:
    """Return the type of the file system of a path, None if ``mounts`` does not tell it.

    ``mounts`` is the ``mountinfo`` of proc(5). The deepest mount point counts, and among equal ones
    the last, which hides the others.
    """
    longest = -1
    kind = ""
    for line in mounts.splitlines():
        mount, _, file_system = line.partition(" - ")
        fields = mount.split(" ")
        if len(fields) < 5:
            continue

        # White space in a mount point is written as an octal escape.
        point = re.sub(r"\\([0-7]{3})", lambda octal: chr(int(octal[1], 8)), fields[4])
        below = path == point or path.startswith(point.rstrip("/") + "/")
        if below and len(point) >= longest:
            longest = len(point)
            kind = file_system.split(" ")[0]

    return kind or None


def _store(path: str, status: Status) -> Finding:
    if status.damage is not None:
        return Finding("store", FAULT, f"{path} is damaged ({status.damage}): restore a backup")

    if status.missing:
        missing = abbreviated(list(status.missing))
        return Finding("store", FAULT, f"{path} lacks {missing}: restore a backup")

    if status.current and status.sequence != status.last:
        words = (
            f"{path} counts {status.sequence} changes, its feed ends with {status.last}: "
            "restore a backup"
        )
        return Finding("store", FAULT, words)

    if status.journal != "wal":
        words = f"{path} is not in WAL mode, so readers and writers wait for each other"
        return Finding("store", NOTE, words)

    return Finding("store", OK, f"{path} answers")


def _tables(status: Status) -> Finding:
    if status.version is None:
        words = "there are none: is this the right file?"
        if status.missing:
            words = "their version is missing"
        return Finding("tables", FAULT, words)

    if status.current:
        return Finding("tables", OK, f"version {status.version}")

    if status.version < status.needed:
        words = (
            f"version {status.version} is too old, this faregate needs {status.needed}: "
            "run 'faregate db upgrade'"
        )
    else:
        words = (
            f"version {status.version} is of a newer faregate than this one, "
            f"which needs {status.needed}: update it"
        )
    return Finding("tables", FAULT, words)


def _page(path: str, status: Status) -> Finding:
    """Check that the page announces every change of the feed.

    The page is read after the feed, so it has to announce at least the last change found there.
    """
    page = f"{path}-page"
    try:
        announced = read_page(path)
    except FileNotFoundError:
        words = (
            f"{page} is missing, so every request reads the feed: "
            "a change or a restart of the application creates it"
        )
        return Finding("page", FAULT, words)
    except OSError as error:
        return Finding("page", FAULT, f"{page} cannot be read: {error.strerror or error}")

    if announced < status.last:
        words = f"{page} is behind the feed ({announced} of {status.last}): restart the application"
        return Finding("page", FAULT, words)

    if not os.access(page, os.W_OK):
        words = f"{page} cannot be written by this user, so this user can change nothing"
        return Finding("page", NOTE, words)

    return Finding("page", OK, f"announces {announced}, the feed is at {status.last}")


def _clock(status: Status, now: float) -> Finding:
    """Compare the clock with the latest change, and the newest change with earlier ones."""
    latest = now
    if status.latest is not None:
        latest = status.latest.timestamp()
    newest = latest
    if status.newest is not None:
        newest = status.newest.timestamp()

    if latest - now > _SKEW:
        words = (
            f"is {latest - now:,.0f} s behind the newest change, "
            "so expired credentials may be accepted: set the clock"
        )
        return Finding("clock", FAULT, words)

    if latest - newest > _SKEW:
        words = (
            f"the newest change is dated {latest - newest:,.0f} s before an earlier one: "
            "the clock of a process is behind"
        )
        return Finding("clock", FAULT, words)

    return Finding("clock", OK, "is not behind the newest change")


def _proxies(settings: Mapping[str, Any]) -> Finding:
    trusted = settings.get("trusted_proxies", ())
    try:
        proxies = TrustedProxies(trusted, settings.get("forwarded_header", "x-forwarded-for"))
    except InvalidInput as error:
        return Finding("proxies", FAULT, str(error))

    if not trusted:
        words = (
            "none is trusted, so the client is the peer of the connection; "
            "name the proxies here if the application trusts any"
        )
        return Finding("proxies", OK, words)

    wide = [block for block in proxies.networks.blocks if _is_wide(block)]
    if wide:
        words = (
            f"{abbreviated(wide)} holds the whole internet, or a good part of it: "
            "anybody there may claim any address; name your proxies alone"
        )
        return Finding("proxies", FAULT, words)

    names = abbreviated([str(proxy) for proxy in trusted])
    words = (
        f"trusted are {names}: a request from there without {proxies.header} has no "
        "known address (waitress drops that header unless told otherwise)"
    )
    return Finding("proxies", OK, words)


def _is_wide(block: str) -> bool:
    """Return True if a network is public, and too large for somebody's proxies."""
    network = ip_network(block)
    if network.prefixlen >= _SHORTEST_PREFIX[network.version]:
        return False
    return not any(
        network.network_address in private and network.broadcast_address in private
        for private in _PRIVATE
        if private.version == network.version
    )


def _secret(path: str, settings: Mapping[str, Any]) -> Finding:
    try:
        issuers = settings.get("issuers", ())
        hmac_secrets = [secret for issuer in issuers for secret in issuer.secrets]
        secret = SigningSecret(settings.get("secret"), path, hmac_secrets)
        ShareTokens(secret, settings.get("brand", "fg"))
        number = len(secret.known())
    except InvalidInput as error:
        return Finding("secret", FAULT, str(error))
    except StoreUnavailable as error:
        return Finding("secret", FAULT, error.cause)

    if secret.given:
        return Finding("secret", OK, f"{number} given, each long enough")
    if number:
        return Finding("secret", OK, f"{path}.key is long enough")
    return Finding("secret", OK, f"{path}.key is created when a share is first redeemed")


def _issuer(issuer: Issuer) -> Finding:
    """Check the keys of an issuer; fetch them unless they are given."""
    keys = issuer.keys
    place = "as given"
    if issuer.jwks_url is not None:
        # These need the packages of the extra, which an issuer with a URL has loaded already.
        from faregate.jwts.download import shown  # noqa: PLC0415
        from faregate.jwts.jwks import fetch  # noqa: PLC0415

        place = f"at {issuer.jwks_url}"
        if issuer.proxy is not None:
            place += f", by way of the proxy {shown(issuer.proxy)}"
        try:
            keys = fetch(issuer.jwks_url, issuer.algorithms, issuer.proxy)
        except Exception as error:  # noqa: BLE001  any failure is the finding
            return Finding("issuer", FAULT, f"{issuer.issuer}: no keys {place}: {error}")

    return _usable_keys(issuer, keys, place)


def _usable_keys(issuer: Issuer, keys: KeySet | None, place: str) -> Finding:
    number = 0
    skipped = ""
    if keys is not None:
        number = len(keys)
        skipped = abbreviated(list(keys.skipped))

    noun = "key" if number == 1 else "keys"
    words = f"{issuer.issuer}: {number} usable {noun} {place}"
    if skipped:
        words += f", not usable {skipped}"

    if not number:
        return Finding("issuer", FAULT, words)
    if issuer.plain_http:
        words += (
            "; over plain http, where anybody on the way can replace the keys: "
            "is that network yours alone?"
        )
        return Finding("issuer", NOTE, words)
    return Finding("issuer", OK, words)
