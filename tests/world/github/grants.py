"""Who asks, and what they may: the App by its signature, a drone by its token."""

import hashlib
import secrets
from pathlib import Path

import jwt

from github import state, store
from github.message import Request, refused
from github.state import Grant, State
from github.store import Repository

LEVELS = ("read", "write", "admin")
# What the App was given when it was registered; no token of it can do more.
APP_PERMISSIONS = {
    "contents": "write",
    "pull_requests": "write",
    "issues": "write",
    "actions": "read",
    "checks": "read",
    "statuses": "read",
    "metadata": "read",
    "workflows": "write",
}
_LONGEST = 600  # seconds that a JWT may be good for


def app(request: Request) -> None:
    """The App, by its JWT (RFC 7519), as GitHub checks it; raises the refusal."""
    try:
        issuer = str(jwt.decode(request.secret or "", options={"verify_signature": False})["iss"])
        key = _public_key(issuer)
        if key is None:
            raise refused(401, "Integration not found")
        unchecked = dict.fromkeys(("verify_exp", "verify_iat", "verify_nbf", "verify_aud", "verify_iss"), False)
        claims = jwt.decode(request.secret or "", key.read_text(), algorithms=["RS256"], options=unchecked)
        issued, expires = int(claims["iat"]), int(claims["exp"])
    except (jwt.PyJWTError, KeyError, ValueError, TypeError) as error:
        raise refused(401, "A JSON web token could not be decoded") from error
    now = state.now()
    if issued > now:
        raise refused(
            401,
            "'Issued at' claim ('iat') must be an Integer representing the time that the assertion was issued",
        )
    if expires > now + _LONGEST:
        raise refused(401, "'Expiration time' claim ('exp') is too far in the future")
    if expires <= now:
        raise refused(
            401,
            "'Expiration time' claim ('exp') must be a numeric value representing the future time at which the "
            "assertion expires",
        )


def _public_key(issuer: str) -> Path | None:
    return next((file for file in store.APPS.glob("*.pem") if file.stem == issuer), None)


def bearer(request: Request) -> Grant | None:
    """The token's grant; none for who shows no token, and a refusal for one that is not good."""
    if request.secret is None:
        return None
    with state.seen() as known:
        for grant in known.grants:
            if grant.token == request.secret and is_live(known, grant):
                return grant
    raise refused(401, "Bad credentials")


def is_live(known: State, grant: Grant) -> bool:
    installation = known.installation(grant.owner)
    well = not installation.suspended and not installation.removed
    return well and not grant.revoked and grant.expires > known.now()


def covers(grant: Grant | None, repository: Repository) -> bool:
    """Whether the token was minted for this repository, whatever it may do there."""
    if grant is None or grant.owner.lower() != repository.owner.lower():
        return False
    return grant.repositories is None or repository.number in grant.repositories


def may(grant: Grant | None, repository: Repository, permission: str, level: str) -> bool:
    """Whether this may be done. What is public may be read by anyone."""
    if level == "read" and not repository.private:
        return True
    if grant is None or not covers(grant, repository):
        return False
    had = grant.permissions.get(permission)
    return had is not None and LEVELS.index(had) >= LEVELS.index(level)


def require(grant: Grant | None, repository: Repository, permission: str, level: str) -> None:
    if not may(grant, repository, permission, level):
        raise refused(403, "Resource not accessible by integration")


def new_token() -> str:
    """Like GitHub's stateless tokens: about 520 characters, with dots, underscores and hyphens."""
    return "ghs_" + ".".join(f"{secrets.token_urlsafe(120)}-{secrets.token_hex(4)}_" for _ in range(3))


def fingerprint(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
