"""Addresses as a message, a log or a record may show them: without passwords, tokens and the like, and in UTF-8.

Libraries do not agree on where a password ends: SQLAlchemy takes one with a slash, others end it there or at the first
@ of two. So what any reader might take for one is hidden, rather too much than too little.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

HIDDEN = "***"
_BEGIN = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/{1,2}(?!/)")
_IN_TEXT = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://\S+")
_SECRET = re.compile("passw|passphrase|pwd|token|secret|key|signature|credential", re.IGNORECASE)
_KEY = re.compile(r"(?:^|;)([^=;]*)=")
_DELIMITERS = re.compile(r"[/@?#:&=;,\[\]\s]+")
_PAGES = ("http", "https")
# A # in these is part of a file's name.
_FILES = ("gs", "s3", "file", "sqlite", "models", "runs", "mlflow-artifacts")
# Theirs have no path in which a colon and an @ may stand.
_DATABASES = ("redis", "rediss", "postgresql", "postgres", "mysql", "mariadb", "mssql", "oracle")
# What follows the first colon where that stands before a port: whatever @ there is stands in the query.
_PORT = re.compile(r"\d{1,5}(?:,[^@?#]*)?(?:/[^@?#]*)?(?:[?#].*)?", re.DOTALL)
_PAGES_PORT = re.compile(r"\d{1,5}/")
_HOST = re.compile(r"[\w-]+(?:\.[\w-]+)+|localhost|\[[^\]]*\]|.*:\d+", re.IGNORECASE)


def masked(address: str) -> str:
    """An address without what is secret in it; text that is none, or has nothing secret in it, stays as it is.

    Hidden are a password, which ends at the last @; values of the query whose names say that they are secret; and the
    fragment. Of a page (`http`) the account is left out whole: its name alone may be a token.
    """
    begin = _BEGIN.search(address)
    if begin is None:
        return address
    scheme, rest = begin[1].lower(), address[begin.end() :]
    return address[: begin.end()] + _without_values(scheme, _without_account(scheme, rest))


def masked_in(text: str) -> str:
    """A text with each address in it masked; blanks end one."""
    return _IN_TEXT.sub(lambda address: masked(address[0]), text)


def in_utf8(text: str) -> str:
    """A text with names of files as UTF-8 can hold it: bytes of a name that are none are escaped, as JSON does it.

    Python has them as lone surrogates, which no table, database or file takes.
    """
    return text.encode(errors="backslashreplace").decode()


def quotable(text: str, address: str) -> str:
    """What a library says of an address, masked; empty where it holds any part of what is secret in that.

    A library that takes a password for a host or a port quotes it as such.
    """
    shown = masked(address)
    text = masked_in(text.replace(address, shown))
    visible = _parts(shown)
    for part in _parts(address) - visible:
        if re.search(rf"(?<!\w){re.escape(part)}(?!\w)", text, re.IGNORECASE):
            return ""
    return text


def _parts(address: str) -> set[str]:
    return {part for form in (address, unquote(address)) for part in _DELIMITERS.split(form) if part}


def _without_account(scheme: str, rest: str) -> str:
    host = re.match(r"\[[^\]/@]*\]", rest)  # of IPv6, with colons of its own
    colon = rest.find(":", host.end() if host else 0)
    user, after = (rest, "") if colon < 0 else (rest[:colon], rest[colon + 1 :])
    no_user = r"[?#]" if scheme.partition("+")[0] in _DATABASES else r"[/?#]"
    if "@" not in after or re.search(no_user, user) or _is_without_password(scheme, user, after):
        return re.sub(r"^[^/?#]*@", "", rest) if scheme in _PAGES else rest
    account = "" if scheme in _PAGES else f"{user}:{HIDDEN}"
    before = re.split(r"[?#]", after, maxsplit=1)[0]
    beyond, _, place = after[len(before) :].rpartition("@")
    if not beyond:
        place = before.rpartition("@")[2] + after[len(before) :]
    elif "@" in before or "=" in beyond:
        # Whether the last @ ends the password or stands in a secret of the query cannot be seen.
        return account or HIDDEN
    return f"{account}@{place}" if account else place


def _is_without_password(scheme: str, user: str, after: str) -> bool:
    if scheme == "file" and len(user) == 1 and after.startswith(("/", "\\")):
        return True  # a drive
    if _PORT.fullmatch(after) and (scheme in _PAGES or not re.match(r"\d+(?:[^?#]*)(?:#|\?[^=]*@)", after)):
        return True
    # http://host:5000/models/name@champion, and not http://me:1234/5@host:5000
    end = re.split(r"[/?#]", after.rpartition("@")[2], maxsplit=1)[0]
    return bool(scheme in _PAGES and _PAGES_PORT.match(after) and _HOST.fullmatch(user) and not _HOST.fullmatch(end))


def _without_values(scheme: str, rest: str) -> str:
    fragment = ""
    # A page's own address may stand in its fragment: #/experiments/1.
    if scheme not in _FILES and "#" in rest and not (scheme in _PAGES and "#/" in rest):
        rest, fragment = rest[: rest.index("#")], f"#{HIDDEN}"
    path, mark, query = rest.partition("?")
    pieces: list[str] = []
    hides = False
    for piece in query.split("&"):
        secret = next((name for name in _KEY.finditer(piece) if _SECRET.search(unquote(name[1]))), None)
        if secret is not None:
            pieces.append(piece[: secret.end()] + HIDDEN)
        elif not hides or "=" in piece:
            pieces.append(piece)
        # What follows without a name belongs to a secret that has an & in it.
        hides = secret is not None or (hides and "=" not in piece)
    return f"{path}{mark}{'&'.join(pieces)}{fragment}"
