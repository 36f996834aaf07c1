"""Names and passwords checked so that wrong ones cost little and tell nothing.

Checking a password takes a tenth of a second of processor, by design. So:
- a good login is remembered, and is checked again ahead of all others;
- of one name, few logins are checked at a time, and of all names together as many as are soon done; the others are
  refused for the moment (429), and nothing is looked up for them;
- every refusal comes after a whole `REFUSAL_S`, whether the name is known or not.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import math
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from pcc_rights import Tier

# A good login is not checked again for this many seconds. Whoever is locked out in between reaches what MLflow leaves
# open (static files) for so long, and nothing else: MLflow checks every other request itself.
REMEMBERED_S, REMEMBERED = 60.0, 1000
# Longer than a check takes, so that how long a refusal took says nothing of what was done for it.
REFUSAL_S = 1.0
OF_ONE_NAME, OF_ALL = 2, 8
# Of an account's name and password together; nobody types more.
LONGEST = 2048


class BusyError(Exception):
    """Too many logins are being checked; another try is worth it in a second."""


class Logins:
    """Who makes a request, by its Authorization header.

    Args:
        check: (name, password) -> what the account may do, None for a wrong login. It is called in threads.
    """

    def __init__(self, check: Callable[[str, str], Tier | None]) -> None:
        self._check = check
        self._key = secrets.token_bytes(32)  # of this process, so that no digest means anything elsewhere
        self._good: dict[bytes, tuple[Tier, float]] = {}
        self._once_good: dict[bytes, None] = {}
        self._under_way: dict[bytes, asyncio.Task[Tier | None]] = {}
        self._of_name: dict[str, int] = {}
        # Two lanes, so that good logins that are checked again never stand behind strangers'.
        self._known_lane = ThreadPoolExecutor(1, "pcc-known-logins")
        self._lane = ThreadPoolExecutor(1, "pcc-logins")

    async def tier(self, header: bytes | None) -> Tier | None:
        """What the account of a header may do; None without a header or for a wrong login.

        Raises:
            BusyError: too many logins are being checked.
        """
        account = name_and_password(header)
        if header is None or account is None:
            return None
        digest = hmac.new(self._key, header, hashlib.sha256).digest()
        tier, until = self._good.get(digest, (None, 0.0))
        if tier is not None and until > time.monotonic():
            return tier
        task = self._under_way.get(digest)  # the same login again, as of processes that start together
        if task is None:
            name = account[0]
            if digest not in self._once_good and (
                self._of_name.get(name, 0) >= OF_ONE_NAME or sum(self._of_name.values()) >= OF_ALL
            ):
                await asyncio.sleep(REFUSAL_S)  # whoever tries again at once is no faster for it
                raise BusyError
            if digest not in self._once_good:
                self._of_name[name] = self._of_name.get(name, 0) + 1
            task = asyncio.create_task(self._settle(digest, digest in self._once_good, *account))
            self._under_way[digest] = task
        # One request that is given up must not take the answer from the others.
        return await asyncio.shield(task)

    async def _settle(self, digest: bytes, known: bool, name: str, password: str) -> Tier | None:
        began = time.monotonic()
        self._good.pop(digest, None)
        try:
            lane = self._known_lane if known else self._lane
            tier = await asyncio.get_running_loop().run_in_executor(lane, self._check, name, password)
            if tier is None:
                self._once_good.pop(digest, None)
                # Whole periods, so that a check that took longer than one does not tell either.
                spent = time.monotonic() - began
                await asyncio.sleep(math.ceil(spent / REFUSAL_S) * REFUSAL_S - spent)
            else:
                self._remember(digest, tier)
            return tier
        finally:
            del self._under_way[digest]
            if not known:
                self._of_name[name] -= 1
                if not self._of_name[name]:
                    del self._of_name[name]

    def _remember(self, digest: bytes, tier: Tier) -> None:
        if len(self._good) >= REMEMBERED:
            self._good.clear()
        self._good[digest] = (tier, time.monotonic() + REMEMBERED_S)
        self._once_good[digest] = self._once_good.pop(digest, None)
        if len(self._once_good) > REMEMBERED:
            del self._once_good[next(iter(self._once_good))]


def name_and_password(header: bytes | None) -> tuple[str, str] | None:
    """What a Basic header holds; None for anything that can be no account's."""
    scheme, _, credentials = (header or b"").partition(b" ")
    if scheme.lower() != b"basic" or len(credentials) > LONGEST * 2:
        return None
    try:
        name, colon, password = base64.b64decode(credentials, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return None
    # A database takes no NUL, and no account has a name with what cannot be typed.
    if not colon or not name or not name.isprintable() or "\0" in password or len(name) + len(password) > LONGEST:
        return None
    return name, password
