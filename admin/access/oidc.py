"""Signing in through an OpenID Connect provider: authorization code, PKCE, state and nonce.

Nothing of it is imported where no provider is configured. What a browser carries to its provider
and back is in a cookie of ten minutes that is signed with the client's secret, so any process of
the service can read it and none keeps it. The ID token is believed for its signature by a key of
the provider, its issuer, audience, time and nonce (OpenID Connect Core 1.0, 3.1.3.7); the access
token is not used.
"""

import base64
import binascii
import hmac
import json
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, Final
from urllib.parse import urlsplit

from admin.access.people import ROLES
from foundation.errors import BadSetting, FlywheelError, Forbidden, MissingExtra
from foundation.settings import LOOPBACK, Settings, get_settings

try:
    import httpx
    from authlib.integrations.httpx_client import (  # type: ignore[import-untyped]
        OAuth2Client,
        OAuthError,
    )
    from authlib.oidc.core import CodeIDToken  # type: ignore[import-untyped]
    from joserfc import jwt
    from joserfc.errors import JoseError
    from joserfc.jwk import KeySet
except ImportError as error:
    raise MissingExtra("authlib", "oidc") from error

COOKIE: Final = "flywheel_oidc"
LIFE_S: Final = 600
"""Seconds that one may take at the provider."""
ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384")
"""Of ID tokens: those by keys that only the provider has."""
_LEEWAY_S: Final = 60
_KNOWN_FOR_S: Final = 300
_ASK_AGAIN_S: Final = 10
_TIMEOUT_S: Final = 10
_SCOPE: Final = "openid profile email"


class ProviderFailed(FlywheelError):
    """The provider does not answer as it should."""

    http_status = 502

    def __init__(self, issuer: str, reason: str) -> None:
        super().__init__(
            f"sign-in provider {issuer}: {reason}, expected an OpenID Connect provider that "
            "answers. Try again; see FLYWHEEL_OIDC_ISSUER."
        )


@dataclass(frozen=True)
class Client:
    """What this service is to its provider, and whom it makes of the provider's users."""

    issuer: str
    client_id: str
    secret: str
    role_claim: str
    roles: Mapping[str, str]
    default_role: str | None


@dataclass(frozen=True)
class Journey:
    """What one browser took along to its provider."""

    state: str
    nonce: str
    verifier: str
    next: str
    until: float


@dataclass(frozen=True)
class Identity:
    """Whom the provider vouches for."""

    subject: str
    """Issuer and subject: who it is, whatever they are called."""
    name: str
    role: str


def client_of(settings: Settings | None = None) -> Client:
    """Return the client as it is configured.

    Raises:
        BadSetting: a part of it is missing, or a role is none.
    """
    told = settings or get_settings()
    issuer = told.oidc_issuer or ""
    _require_safe(issuer)
    for name, value in (("CLIENT_ID", told.oidc_client_id), ("CLIENT_SECRET", _secret_of(told))):
        if not value:
            raise BadSetting(
                f"FLYWHEEL_OIDC_{name}", None, "what the provider gave", "See docs/admin.md."
            )
    for role in [*told.oidc_roles.values(), *filter(None, [told.oidc_default_role])]:
        if role not in ROLES:
            raise BadSetting(
                "FLYWHEEL_OIDC_ROLES or FLYWHEEL_OIDC_DEFAULT_ROLE",
                role,
                f"one of {', '.join(ROLES)}",
                "See docs/admin.md.",
            )
    return Client(
        issuer,
        told.oidc_client_id or "",
        _secret_of(told),
        told.oidc_role_claim,
        dict(told.oidc_roles),
        told.oidc_default_role,
    )


def begin(client: Client, redirect_uri: str, next: str) -> tuple[str, str]:
    """Return where the browser goes, and the cookie it takes along.

    Raises:
        ProviderFailed: it cannot be asked where.
    """
    journey = Journey(
        secrets.token_urlsafe(32),
        secrets.token_urlsafe(32),
        secrets.token_urlsafe(48),
        next,
        time.time() + LIFE_S,
    )
    told = _provider(client.issuer).metadata()
    with _session(client, redirect_uri) as session:
        address, _ = session.create_authorization_url(
            told["authorization_endpoint"],
            state=journey.state,
            nonce=journey.nonce,
            code_verifier=journey.verifier,
        )
    return address, _signed(client, journey)


def finish(
    client: Client, redirect_uri: str, answer: Mapping[str, str], cookie: str
) -> tuple[Identity, str]:
    """Return who came back from the provider, and where they wanted to go.

    Raises:
        Forbidden: this browser did not set out, the provider refused, the token is not to be
            believed, or no role is theirs.
        ProviderFailed: the provider does not answer.
    """
    journey = _read(client, cookie)
    state = answer.get("state", "")
    if not hmac.compare_digest(state.encode(), journey.state.encode()):
        raise _refused("an answer to another request")
    if answer.get("iss", client.issuer) != client.issuer:  # RFC 9207
        raise _refused("an answer of another provider")
    if "error" in answer or "code" not in answer:
        raise _refused(f"the provider's refusal {answer.get('error', 'without a code')[:100]!r}")
    token = _exchange(client, redirect_uri, answer["code"], journey)
    claims = _claims(client, token, journey.nonce)
    return _identity(client, claims), journey.next


def _exchange(client: Client, redirect_uri: str, code: str, journey: Journey) -> Mapping[str, Any]:
    told = _provider(client.issuer).metadata()
    try:
        with _session(client, redirect_uri) as session:
            token: Mapping[str, Any] = session.fetch_token(
                told["token_endpoint"],
                grant_type="authorization_code",
                code=code,
                code_verifier=journey.verifier,
            )
    except OAuthError as error:
        raise _refused(f"the provider's refusal {str(error.error)[:100]!r}") from error
    except Exception as error:  # of httpx or httpx2, as Authlib finds it, and of what is no JSON
        raise ProviderFailed(client.issuer, f"no token ({type(error).__name__})") from error
    if not isinstance(token.get("id_token"), str):
        raise _refused("a token without an ID token")
    return token


def _claims(client: Client, token: Mapping[str, Any], nonce: str) -> Mapping[str, Any]:
    """Return the claims of an ID token that is to be believed."""
    provider = _provider(client.issuer)
    try:
        try:
            read = jwt.decode(token["id_token"], provider.keys(), algorithms=list(ALGORITHMS))
        except (JoseError, ValueError):  # a new key, perhaps
            read = jwt.decode(
                token["id_token"], provider.keys(afresh=True), algorithms=list(ALGORITHMS)
            )
        claims = CodeIDToken(
            read.claims,
            read.header,
            options={
                "iss": {"essential": True, "value": client.issuer},
                "aud": {"essential": True, "value": client.client_id},
                "sub": {"essential": True},
                "exp": {"essential": True},
                "nonce": {"essential": True, "value": nonce},
            },
            params={
                "nonce": nonce,
                "client_id": client.client_id,
                "access_token": token.get("access_token"),
            },
        )
        claims.validate(leeway=_LEEWAY_S)
    except (JoseError, ValueError, TypeError, KeyError) as error:
        raise _refused(f"an ID token that fails ({type(error).__name__}: {error})") from error
    return dict(claims)


def _identity(client: Client, claims: Mapping[str, Any]) -> Identity:
    said = _at(claims, client.role_claim)
    values = [said] if isinstance(said, str) else said if isinstance(said, list) else []
    mapped = {client.roles[v] for v in values if isinstance(v, str) and v in client.roles}
    role = next((r for r in reversed(ROLES) if r in mapped), client.default_role)
    if role is None:
        raise _refused(f"a user without a role here ({client.role_claim})")
    names = (claims.get(name) for name in ("preferred_username", "email", "name", "sub"))
    name = next(n for n in names if isinstance(n, str) and n.strip())
    return Identity(f"{client.issuer} {claims['sub']}", name, role)


def _at(claims: Mapping[str, Any], claim: str) -> Any:
    """Return a claim by its name, or by its path: `realm_access.roles`."""
    if claim in claims:
        return claims[claim]
    found: Any = claims
    for part in claim.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found


class _Provider:
    """What a provider says of itself, kept for a while; its keys are read anew for a new one."""

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        self._lock = threading.Lock()
        self._metadata: Mapping[str, Any] = {}
        self._keys: KeySet | None = None
        self._metadata_at = self._keys_at = float("-inf")

    def metadata(self) -> Mapping[str, Any]:
        """Return its endpoints; raises ProviderFailed."""
        with self._lock:
            if time.monotonic() - self._metadata_at > _KNOWN_FOR_S:
                told = self._get(f"{self._issuer.rstrip('/')}/.well-known/openid-configuration")
                if told.get("issuer") != self._issuer:
                    raise ProviderFailed(self._issuer, f"it is {told.get('issuer')!r}")
                for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
                    _require_safe(str(told.get(name, "")))
                self._metadata, self._metadata_at = told, time.monotonic()
            return self._metadata

    def keys(self, afresh: bool = False) -> KeySet:
        """Return its public keys; raises ProviderFailed."""
        address = self.metadata()["jwks_uri"]
        with self._lock:
            age = time.monotonic() - self._keys_at
            if self._keys is None or age > (_ASK_AGAIN_S if afresh else _KNOWN_FOR_S):
                try:
                    self._keys = KeySet.import_key_set(self._get(address))  # type: ignore[arg-type]
                except (JoseError, ValueError, TypeError, KeyError) as error:
                    raise ProviderFailed(self._issuer, "its keys cannot be read") from error
                self._keys_at = time.monotonic()
            return self._keys

    def _get(self, address: str) -> Mapping[str, Any]:
        try:
            answer = httpx.get(address, timeout=_TIMEOUT_S, follow_redirects=False)
            answer.raise_for_status()
            told = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ProviderFailed(self._issuer, type(error).__name__) from error
        if not isinstance(told, dict):
            raise ProviderFailed(self._issuer, "no JSON object")
        return told


_PROVIDERS: Final[dict[str, _Provider]] = {}


def _provider(issuer: str) -> _Provider:
    return _PROVIDERS.setdefault(issuer, _Provider(issuer))


def _session(client: Client, redirect_uri: str) -> Any:
    return OAuth2Client(
        client_id=client.client_id,
        client_secret=client.secret,
        scope=_SCOPE,
        redirect_uri=redirect_uri,
        code_challenge_method="S256",
        timeout=_TIMEOUT_S,
    )


def _signed(client: Client, journey: Journey) -> str:
    told = base64.urlsafe_b64encode(json.dumps(asdict(journey)).encode()).decode()
    return f"{told}.{_signature(client, told)}"


def _read(client: Client, cookie: str) -> Journey:
    told, _, signature = cookie.partition(".")
    if not hmac.compare_digest(signature.encode(), _signature(client, told).encode()):
        raise _refused("a browser that did not set out from here")
    try:
        journey = Journey(**json.loads(base64.urlsafe_b64decode(told)))
    except (binascii.Error, ValueError, TypeError) as error:
        raise _refused("a browser that did not set out from here") from error
    if journey.until < time.time():
        raise _refused("an answer that took longer than ten minutes")
    return journey


def _signature(client: Client, told: str) -> str:
    key = sha256(b"flywheel oidc journey\0" + client.secret.encode()).digest()
    return hmac.new(key, told.encode("utf-8", "surrogatepass"), sha256).hexdigest()


def _secret_of(settings: Settings) -> str:
    return settings.oidc_client_secret.get_secret_value() if settings.oidc_client_secret else ""


def _require_safe(address: str) -> None:
    read = urlsplit(address)
    if read.scheme == "https" and read.hostname:
        return
    if read.scheme == "http" and read.hostname in LOOPBACK:
        return
    raise BadSetting(
        "FLYWHEEL_OIDC_ISSUER", address, "an https:// address", "Ask the provider for its issuer."
    )


def _refused(got: str) -> Forbidden:
    return Forbidden("sign-in through the provider", got, "one that fits", "Sign in again.")
