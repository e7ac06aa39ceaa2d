"""Signing in through a provider: a real one on loopback, with real keys; and what it may not."""

import base64
import hashlib
import hmac
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

import httpx
import pytest
from joserfc import jwt
from joserfc.jwk import OctKey, RSAKey
from sqlalchemy import select
from sqlmodel import Session, col
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from upstream_app import Server

from admin.access import oidc, users
from admin.tables import AuditEntry, User, UserSession
from foundation.errors import BadSetting, MissingExtra
from foundation.settings import Settings, get_settings

PROJECT = Path(__file__).resolve().parents[2]
CLIENT, SECRET = "flywheel", "the-secret-of-the-client"
RED, BLUE = (RSAKey.generate_key(2048, {"kid": kid, "alg": "RS256"}) for kid in ("red", "blue"))


@dataclass
class Provider:
    """An OpenID Connect provider of one user, which can be told to do wrong."""

    key: RSAKey = field(default_factory=lambda: RED)
    published: list[RSAKey] = field(default_factory=lambda: [RED])
    header: dict[str, Any] = field(default_factory=lambda: {"alg": "RS256", "kid": "red"})
    claims: dict[str, Any] = field(default_factory=dict)
    """Over those of a right token; None leaves one out."""
    answer: dict[str, str] = field(default_factory=dict)
    """Over what the browser brings back."""
    issuer: str = ""
    says_issuer: str = ""
    asked: dict[str, str] = field(default_factory=dict)
    token_status: int = 200
    seen: list[str] = field(default_factory=list)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/.well-known/openid-configuration", self.metadata),
                Route("/authorize", self.authorize),
                Route("/token", self.token, methods=["POST"]),
                Route("/keys", self.keys),
            ]
        )

    def metadata(self, request: Request) -> Response:
        return JSONResponse(
            {
                "issuer": self.says_issuer or self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/keys",
            }
        )

    def keys(self, request: Request) -> Response:
        self.seen.append("keys")
        return JSONResponse({"keys": [key.as_dict(private=False) for key in self.published]})

    def authorize(self, request: Request) -> Response:
        self.asked = dict(request.query_params)
        back = {"code": "a-code", "state": self.asked["state"], "iss": self.issuer, **self.answer}
        return RedirectResponse(f"{self.asked['redirect_uri']}?{urlencode(back)}", status_code=302)

    async def token(self, request: Request) -> Response:
        form = parse_qs((await request.body()).decode())
        kind, _, given = request.headers["authorization"].partition(" ")
        assert kind == "Basic"
        assert base64.b64decode(given).decode() == f"{CLIENT}:{SECRET}"
        assert form["redirect_uri"] == [self.asked["redirect_uri"]]
        digest = hashlib.sha256(form["code_verifier"][0].encode()).digest()
        challenge = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if challenge != self.asked["code_challenge"] or form["code"] != ["a-code"]:
            return JSONResponse({"error": "invalid_grant"}, status_code=400)
        if self.token_status != 200:
            return Response("<html>down</html>", status_code=self.token_status)
        return JSONResponse(
            {"access_token": "unused", "token_type": "Bearer", "id_token": self.id_token()}
        )

    def id_token(self) -> str:
        told = {
            "iss": self.issuer,
            "sub": "248289761001",
            "aud": CLIENT,
            "exp": int(time.time()) + 300,
            "iat": int(time.time()),
            "nonce": self.asked["nonce"],
            "preferred_username": "grace",
            "groups": ["everybody", "ml-team"],
            **self.claims,
        }
        kept = {name: value for name, value in told.items() if value is not None}
        return jwt.encode(self.header, kept, self.key)


@pytest.fixture
def provider(session: Session, monkeypatch: pytest.MonkeyPatch) -> Iterator[Provider]:
    made = Provider()
    monkeypatch.setattr(oidc, "_PROVIDERS", {})
    with Server(made.app()) as server:
        made.issuer = server.url
        for name, value in {
            "ISSUER": server.url,
            "CLIENT_ID": CLIENT,
            "CLIENT_SECRET": SECRET,
            "ROLES": json.dumps({"ml-team": "operator", "readers": "viewer", "root": "admin"}),
        }.items():
            monkeypatch.setenv(f"FLYWHEEL_OIDC_{name}", value)
        get_settings.cache_clear()
        yield made
    get_settings.cache_clear()


def travel(browser: Any, next: str = "") -> httpx.Response:
    """Go to the provider and back, as a browser does; return what the view says at last."""
    start = browser.ask("GET", "/admin/login/oidc", params={"next": next})
    assert start.status_code == 303, start.text
    back = httpx.get(start.headers["location"])
    assert back.status_code == 302
    answer: httpx.Response = browser.ask("GET", back.headers["location"])
    return answer


def test_whom_the_provider_vouches_for_comes_in(session: Session, visit, provider) -> None:
    browser = visit()
    page = browser.ask("GET", "/admin/login?next=/admin/decisions").text
    assert "Sign in with your organisation" in page
    assert "/admin/login/oidc?next=%2Fadmin%2Fdecisions" in page
    answer = travel(browser, "/admin/decisions")
    assert (answer.status_code, answer.headers["location"]) == (303, "/admin/decisions")
    assert browser.ask("GET", "/admin/").status_code == 200
    user = session.scalars(select(User)).one()
    assert (user.name, user.role, user.actor) == ("grace", "operator", "oidc")
    assert user.oidc_subject == f"{provider.issuer} 248289761001"
    entry = session.scalars(select(AuditEntry)).one()
    assert (entry.action, entry.via, entry.actor) == ("session.begin", "oidc", "grace")
    asked = provider.asked
    assert asked["code_challenge_method"] == "S256"
    assert asked["response_type"] == "code"
    assert asked["redirect_uri"] == "http://127.0.0.1:8710/admin/login/oidc/back"
    assert "openid" in asked["scope"].split()
    assert SECRET not in json.dumps(asked)


def test_the_same_person_is_the_same_user_with_today_s_role(
    session: Session, visit, provider
) -> None:
    travel(visit())
    provider.claims = {"groups": ["readers"], "preferred_username": "grace.hopper"}
    travel(visit())
    session.expire_all()
    user = session.scalars(select(User)).one()
    assert (user.name, user.role) == ("grace", "viewer")


def test_a_name_that_another_has_is_not_theirs(session: Session, visit, provider) -> None:
    mine = users.create(session, "grace", "admin", actor="test")
    session.commit()
    assert travel(visit()).status_code == 303
    other = session.scalars(select(User).where(col(User.id) != mine.id)).one()
    assert other.name.startswith("grace-")
    assert other.role == "operator"


def test_a_role_inside_of_a_claim_and_the_one_that_may_most(
    session: Session, visit, provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYWHEEL_OIDC_ROLE_CLAIM", "realm_access.roles")
    get_settings.cache_clear()
    provider.claims = {"realm_access": {"roles": ["readers", "root", 5]}}
    assert travel(visit()).status_code == 303
    assert session.scalars(select(User.role)).one() == "admin"


WRONG_TOKENS: dict[str, dict[str, Any]] = {
    "wrong nonce": {"claims": {"nonce": "another"}},
    "no nonce": {"claims": {"nonce": None}},
    "wrong audience": {"claims": {"aud": "another"}},
    "one of many audiences, none of them the party": {"claims": {"aud": [CLIENT, "b"]}},
    "another party": {"claims": {"azp": "another"}},
    "wrong issuer": {"claims": {"iss": "https://evil.example"}},
    "no subject": {"claims": {"sub": None}},
    "expired": {"claims": {"exp": 1_000_000}},
    "no expiry": {"claims": {"exp": None}},
    "not yet": {"claims": {"nbf": 4_000_000_000}},
    "unknown key": {"key": BLUE, "header": {"alg": "RS256", "kid": "blue"}},
    "another key of that name": {"key": BLUE},
    "no key named": {"key": BLUE, "header": {"alg": "RS256"}},
    "signed with the client's secret": {
        "key": OctKey.import_key(SECRET),
        "header": {"alg": "HS256"},
    },
    "no role": {"claims": {"groups": ["everybody"]}},
    "roles that are none": {"claims": {"groups": {"ml-team": True}}},
    "the provider's refusal": {"answer": {"error": "access_denied"}},
    "another provider's answer": {"answer": {"iss": "https://evil.example"}},
    "state mismatch": {"answer": {"state": "another"}},
    "wrong code": {"answer": {"code": "another"}},
}


@pytest.mark.parametrize("wrong", list(WRONG_TOKENS))
def test_a_token_that_is_not_right_opens_nothing(
    session: Session, visit, provider, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    for name, value in WRONG_TOKENS[wrong].items():
        setattr(provider, name, value)
    browser = visit()
    answer = travel(browser)
    assert answer.status_code == 403, answer.text
    assert "Sign in again" in answer.text
    assert browser.token is None
    assert session.scalars(select(User)).all() == []
    assert session.scalars(select(UserSession)).all() == []


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_a_token_without_the_provider_s_private_key_opens_nothing(
    session: Session, visit, provider, algorithm: str
) -> None:
    """Unsigned, or with the public key as the secret of a MAC."""

    def coded(told: bytes) -> bytes:
        return base64.urlsafe_b64encode(told).rstrip(b"=")

    def forged() -> str:
        told = {"iss": provider.issuer, "sub": "1", "aud": CLIENT, "nonce": provider.asked["nonce"]}
        told |= {"exp": int(time.time()) + 300, "iat": int(time.time()), "groups": ["root"]}
        header = {"alg": algorithm, "kid": "red"}
        signed = b".".join(coded(json.dumps(part).encode()) for part in (header, told))
        mac = hmac.digest(RED.as_pem(private=False), signed, "sha256")
        return (signed + b"." + (coded(mac) if algorithm == "HS256" else b"")).decode()

    provider.id_token = forged
    assert travel(visit()).status_code == 403
    assert session.scalars(select(User)).all() == []


def test_a_new_key_of_the_provider_is_read_when_it_is_needed(
    session: Session, visit, provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert travel(visit()).status_code == 303
    assert travel(visit()).status_code == 303
    assert provider.seen == ["keys"], "kept for a while"
    provider.published = [RED, BLUE]
    provider.key, provider.header = BLUE, {"alg": "RS256", "kid": "blue"}
    monkeypatch.setattr(oidc, "_ASK_AGAIN_S", 0)
    assert travel(visit()).status_code == 303
    assert len(provider.seen) == 2


def test_only_the_browser_that_set_out_comes_back(session: Session, visit, provider) -> None:
    start = visit().ask("GET", "/admin/login/oidc")
    back = httpx.get(start.headers["location"]).headers["location"]
    assert visit().ask("GET", back).status_code == 403, "another browser, without the cookie"
    cookie = start.headers["set-cookie"].partition("=")[2].partition(";")[0]
    told, _, signature = cookie.partition(".")
    journey = json.loads(base64.urlsafe_b64decode(told))
    assert SECRET not in str(journey)
    for changed in (
        {**journey, "next": "https://evil.example"},
        {**journey, "until": journey["until"] + 1_000},
    ):
        forged = base64.urlsafe_b64encode(json.dumps(changed).encode()).decode()
        browser = visit()
        browser.cookies.set(oidc.COOKIE, f"{forged}.{signature}")
        assert browser.ask("GET", back).status_code == 403


def test_a_journey_ends_after_ten_minutes(
    session: Session, visit, provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(oidc, "LIFE_S", -1)
    browser = visit()
    start = browser.ask("GET", "/admin/login/oidc")
    browser.cookies.set(
        oidc.COOKIE, start.headers["set-cookie"].partition("=")[2].partition(";")[0]
    )
    back = httpx.get(start.headers["location"]).headers["location"]
    answer = browser.ask("GET", back)
    assert answer.status_code == 403
    assert "ten minutes" in answer.text


@pytest.mark.parametrize(("scheme", "secure"), [("http", False), ("https", True)])
def test_the_cookie_of_the_journey(visit, provider, scheme: str, secure: bool) -> None:
    answer = visit(base=f"{scheme}://127.0.0.1:8710").ask("GET", "/admin/login/oidc")
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/admin/login/oidc" in cookie
    assert "Max-Age=600" in cookie
    assert ("Secure" in cookie) == secure


def test_who_is_disabled_here_stays_out_whatever_the_provider_says(
    session: Session, visit, provider
) -> None:
    travel(visit())
    users.disable(session, session.scalars(select(User)).one())
    session.commit()
    answer = travel(visit())
    assert answer.status_code == 403
    assert "disabled" in answer.text


def test_who_has_a_provider_gets_no_password_here(session: Session, visit, provider) -> None:
    browser = visit()
    travel(browser)
    assert "which keeps your password" in browser.ask("GET", "/admin/me").text
    fields = {"password": "correct horse battery", "again": "correct horse battery"}
    assert browser.post("/me/password", **fields).status_code == 409
    session.expire_all()
    assert session.scalars(select(User.password_hash)).one() is None


def test_a_default_role_lets_in_whom_no_value_maps(
    session: Session, visit, provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLYWHEEL_OIDC_DEFAULT_ROLE", "viewer")
    get_settings.cache_clear()
    provider.claims = {"groups": None}
    assert travel(visit()).status_code == 303
    assert session.scalars(select(User.role)).one() == "viewer"


@pytest.mark.parametrize("wrong", ["issuer", "down", "token"])
def test_a_provider_that_does_not_answer_as_it_should_is_named(
    session: Session, visit, provider, monkeypatch: pytest.MonkeyPatch, wrong: str
) -> None:
    browser = visit()
    if wrong == "token":
        provider.token_status = 503
        answer = travel(browser)
    else:
        if wrong == "issuer":
            provider.says_issuer = "https://evil.example"
        else:
            monkeypatch.setenv("FLYWHEEL_OIDC_ISSUER", "http://127.0.0.1:9")
            get_settings.cache_clear()
        answer = browser.ask("GET", "/admin/login/oidc")
    assert answer.status_code == 502
    assert "sign-in provider" in answer.text


def test_without_a_provider_there_is_no_way_to_one(session: Session, visit) -> None:
    browser = visit()
    assert "organisation" not in browser.ask("GET", "/admin/login").text
    assert browser.ask("GET", "/admin/login/oidc").status_code == 404
    assert browser.ask("GET", "/admin/login/oidc/back?code=a&state=b").status_code == 404


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ({"oidc_client_id": None}, "CLIENT_ID"),
        ({"oidc_client_secret": None}, "CLIENT_SECRET"),
        ({"oidc_issuer": "http://idp.example"}, "ISSUER"),
        ({"oidc_issuer": "ftp://127.0.0.1"}, "ISSUER"),
        ({"oidc_roles": {"a": "root"}}, "ROLES"),
        ({"oidc_default_role": "root"}, "DEFAULT_ROLE"),
    ],
)
def test_a_provider_that_is_half_configured_is_refused_at_the_start(
    given: dict[str, Any], named: str
) -> None:
    whole = {
        "oidc_issuer": "https://idp.example",
        "oidc_client_id": CLIENT,
        "oidc_client_secret": SECRET,
    }
    assert oidc.client_of(Settings(**whole)).client_id == CLIENT
    with pytest.raises(BadSetting, match=named) as refused:
        oidc.client_of(Settings(**{**whole, **given}))
    assert SECRET not in str(refused.value)


def run(code: str, **variables: str) -> str:
    environment = {"PATH": "/usr/bin:/bin", "FLYWHEEL_HOME": "/nonexistent", **variables}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, env=environment
    )
    return done.stdout + done.stderr


def test_the_service_loads_it_only_where_it_is_configured() -> None:
    code = (
        "import sys; from flywheel.app import create_app; create_app(); "
        "print([m for m in ('authlib', 'joserfc') if m in sys.modules])"
    )
    assert run(code).strip().endswith("[]")
    configured = {
        "FLYWHEEL_OIDC_ISSUER": "https://idp.example",
        "FLYWHEEL_OIDC_CLIENT_ID": CLIENT,
        "FLYWHEEL_OIDC_CLIENT_SECRET": SECRET,
    }
    assert run(code, **configured).strip().endswith("['authlib', 'joserfc']")
    without = f"import sys; sys.modules['authlib'] = None; {code}"
    assert MissingExtra("authlib", "oidc").args[0] in run(without, **configured)
