"""Deployment settings: addresses, keys and paths, from `FLYWHEEL_*` variables or a `.env` file.

Recipes (ranks, thresholds, quotas) are dataclasses beside their owners, not settings.
`docs/settings.md` is generated from this class and checked by a test.
"""

import os
import re
import secrets
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings.exceptions import SettingsError

from foundation.errors import BadSetting

LOOPBACK = ("127.0.0.1", "::1", "localhost")
SHORTEST_KEY = 16
"""Characters that FLYWHEEL_API_KEY has at least where others than this machine may try it."""
_OBVIOUS = ("changeme", "change-me", "change_me", "password", "example", "your-key", "12345678")
BROKERS = ("redis://", "rediss://", "sentinel://", "amqp://", "amqps://")
SECRETS_DIR = "FLYWHEEL_SECRETS_DIR"


class Settings(BaseSettings):
    """Every knob of a deployment; each field states its unit and default."""

    model_config = SettingsConfigDict(env_prefix="FLYWHEEL_", env_file=".env", extra="ignore")

    home: Path = Field(
        default=Path(".flywheel"),
        description="Folder of what this machine keeps: embedded database, artifacts, spool, logs.",
    )
    database_url: str | None = Field(
        default=None,
        description="PostgreSQL URL (postgresql://user@host:5432/name). Unset: embedded server.",
    )
    broker_url: str | None = Field(
        default=None,
        description="Celery broker (redis://… or amqp://…). Unset: the database is the broker.",
    )
    queue_prefix: str = Field(
        default="",
        pattern=r"^[\w.-]{0,40}$",
        description="Begins the names of the queues: deployments on one broker need one each.",
    )
    artifacts_url: str | None = Field(
        default=None,
        description="Root of datasets, adapters, reports: any fsspec URL. Unset: HOME/artifacts.",
    )
    secrets_dir: Path | None = Field(
        default=None,
        description="Folder of files that are named as variables (flywheel_api_key) and hold their "
        "values, where those are not set. The environment only, not .env.",
    )
    host: str = Field(default="127.0.0.1", description="Address the service listens on.")
    port: int = Field(default=8710, ge=0, le=65535, description="Port of the API and admin view.")
    gateway_port: int = Field(default=8711, ge=0, le=65535, description="Port of the gateway.")
    engine_port: int = Field(
        default=8712, ge=0, le=65535, description="Port of the embedded engine."
    )
    engine_url: str | None = Field(
        default=None,
        description="OpenAI-compatible server of our models (…/v1). Unset: the embedded engine.",
    )
    engine_kind: Literal["auto", "embedded", "vllm", "ollama", "llama_cpp", "plain"] = Field(
        default="auto",
        description="How that server is told what to run; auto: it is asked what it is. "
        "plain: transformers serve.",
    )
    engine_base: str | None = Field(
        default=None,
        description="What that server calls the base model, where not as we do (Ollama: qwen3:8b).",
    )
    base_gguf: Path | None = Field(
        default=None,
        description="GGUF file of the base model (F16, BF16 or Q8_0), for llama.cpp and Ollama.",
    )
    llama_cpp_python: Path | None = Field(
        default=None,
        description="Python that has llama-cpp-python: exports as GGUF are heard through it, too.",
    )
    engine_device: str = Field(
        default="cpu",
        description="Where the embedded engine computes: cpu, cuda, cuda:1, or auto.",
    )
    engine_dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto",
        description="Numbers of its weights. auto: bfloat16 on a GPU, float32 on a CPU.",
    )
    engine_rows: int = Field(
        default=256, ge=1, description="Answers that the embedded engine makes together."
    )
    engine_queue: int = Field(
        default=1024,
        ge=0,
        description="Answers that may wait beside those; who comes then is told to ask later.",
    )
    engine_kv_mb: int = Field(
        default=2048, ge=1, description="MiB of keys and values of answers under way."
    )
    engine_prefix_mb: int = Field(
        default=256,
        ge=0,
        description="MiB of keys and values kept of prompts, for those that begin alike.",
    )
    engine_adapters_mb: int = Field(
        default=2048, ge=1, description="MiB of adapters in memory, of one base."
    )
    engine_bases_mb: int = Field(
        default=16384, ge=1, description="MiB of base models in memory; one is held in any case."
    )
    upstreams: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description='Further OpenAI-compatible servers as JSON: {"name": {"base_url", "api_key", '
        '"models"}}.',
    )
    gateway_file: Path | None = Field(
        default=None,
        description="YAML file of upstreams, models and roles of the gateway, read anew when it "
        "changes. Unset: FLYWHEEL_UPSTREAMS only.",
    )
    api_key: SecretStr | None = Field(
        default=None,
        description="The master key, which opens everything; off loopback 16 characters or more "
        "are needed. Agents get keys of their own.",
    )
    metrics_key: SecretStr | None = Field(
        default=None,
        description="Opens /metrics of every process and nothing else, the database being away or "
        "not: what Prometheus scrapes with.",
    )
    roles: list[str] = Field(
        default=["coder", "tester", "reviewer", "researcher", "coordinator"],
        description="Agent roles, as a JSON list; records of other roles are refused.",
    )
    credit_rules: Path | None = Field(
        default=None,
        description="YAML file of the rules by which one role's outcome credits another's turn. "
        "Unset: a tester's and a reviewer's go to the coder.",
    )
    github_secret: SecretStr | None = Field(
        default=None,
        description="Secret that GitHub signs its webhooks with. Set: their signature is the key.",
    )
    otlp_role: str | None = Field(
        default=None,
        description="Role of OpenTelemetry spans that name none, nor an agent that is one. "
        "Unset: such spans are refused.",
    )
    project: str = Field(
        default="default", description="Project that records without one belong to."
    )
    recipes: Path | None = Field(
        default=None,
        description="Folder of training recipes by role, ROLE.yaml. Unset: the default recipe.",
    )
    base_model: str | None = Field(
        default=None,
        description="Folder or hub name of the base model to train and serve. Unset: that of who "
        "serves the role, else the one registered for it.",
    )
    trusted_bases: list[str] = Field(
        default_factory=list,
        description="Base models whose own code may run while they are trained, as a JSON list of "
        "folders or hub names. Unset: no such code is run.",
    )
    judge_models: list[str] = Field(
        default_factory=list,
        description="Judges of answers in evaluations, as a JSON list of NAME or NAME=BASE; "
        "several are a panel. Unset: no answer is judged.",
    )
    machine_usd_per_hour: float | None = Field(
        default=None,
        ge=0,
        description="What the machine that trains costs, for estimates. Unset: no cost is told.",
    )
    torch_threads: int = Field(default=0, ge=0, description="CPU threads of torch; 0: all cores.")
    heartbeat_s: float = Field(
        default=2.0, gt=0, description="Seconds between heartbeats of a run."
    )
    lost_after_s: float = Field(
        default=30.0,
        gt=0,
        description="Seconds without a heartbeat after which a run is re-queued.",
    )
    worker_nice: int = Field(
        default=5,
        ge=0,
        le=19,
        description="How far the worker that flywheel up starts gives way to calls where cores are "
        "short, as nice; 0: not at all.",
    )
    max_attempts: int = Field(default=3, ge=1, description="Starts of one run before it fails.")
    partitions_ahead: int = Field(
        default=4, ge=1, description="Weekly partitions of the interaction log made ahead."
    )
    max_batch_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1024,
        description="Bytes of one ingest request, inflated; a larger one is refused whole.",
    )
    max_record_bytes: int = Field(
        default=4 * 1024 * 1024,
        ge=1024,
        description="Bytes of one record as JSON; a larger one is rejected alone.",
    )
    max_prompt_bytes: int = Field(
        default=32 * 1024 * 1024,
        ge=1024,
        description="Bytes of one request to the gateway; a larger one is refused.",
    )
    retention_payload_days: int | None = Field(
        default=None,
        ge=1,
        description="Days that prompts and answers are kept, by whole weeks. Unset: for ever.",
    )
    retention_metadata_days: int | None = Field(
        default=None,
        ge=1,
        description="Days that calls, feedback and logs of runs are kept; payloads go with them at "
        "the latest. Unset: for ever.",
    )
    retention_artifacts_days: int | None = Field(
        default=None,
        ge=1,
        description="Days after which files and kept answers that nobody needs are removed. Unset: "
        "by hand, flywheel model gc.",
    )
    signing_key: Path | None = Field(
        default=None,
        description="PEM file of the Ed25519 key that manifests of model versions are signed with. "
        "Unset: HOME/keys/signing.pem, made when it is first needed.",
    )
    trusted_signers: list[str] = Field(
        default_factory=list,
        description="Whose signatures on model versions count, as a JSON list of PEM files of "
        "public keys or their 64 hexadecimal digits; versions signed by others are refused. Unset: "
        "the own key's, and others are only told of.",
    )
    require_signed: bool = Field(
        default=False,
        description="Whether versions with files that nobody who counts has signed are refused.",
    )
    admin_user: str = Field(
        default="admin",
        description="Name written as actor of commands and of who has the key; the first user.",
    )
    oidc_issuer: str | None = Field(
        default=None,
        description="OpenID Connect provider that people may sign in to the admin view through. "
        "Unset: none.",
    )
    oidc_client_id: str | None = Field(
        default=None, description="What that provider calls this service."
    )
    oidc_client_secret: SecretStr | None = Field(
        default=None, description="Secret that the provider gave for it."
    )
    oidc_role_claim: str = Field(
        default="groups",
        description="Claim of the ID token that roles are read from; a.b is b inside of a.",
    )
    oidc_roles: dict[str, str] = Field(
        default_factory=dict,
        description='Roles by the claim\'s values as JSON: {"ml-team": "operator"}. Of several '
        "the one that may most.",
    )
    oidc_default_role: str | None = Field(
        default=None,
        description="Role of whom the provider knows and no value maps. Unset: they are refused.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least severe log line that is written."
    )
    log_format: Literal["auto", "text", "json"] = Field(
        default="auto",
        description="How log lines are written; auto: text on a terminal, JSON elsewhere.",
    )
    access_log: Literal["none", "failures", "all"] = Field(
        default="failures",
        description="Requests to service, gateway and engine that get a log line: none, those "
        "answered with 400 or more, or all.",
    )
    metrics_port: int | None = Field(
        default=None,
        ge=0,
        le=65535,
        description="Port where a worker or scheduler answers /healthz, /readyz and /metrics. "
        "Unset: none.",
    )
    otlp_endpoint: str | None = Field(
        default=None,
        description="OTLP receiver (http://host:4318) that traces are sent to. Unset: that of "
        "OTEL_EXPORTER_OTLP_ENDPOINT, else none are made.",
    )
    sentry_dsn: SecretStr | None = Field(
        default=None,
        description="Where errors are reported to, in Sentry's protocol. Unset: SENTRY_DSN, else "
        "nowhere.",
    )

    @field_validator("database_url")
    @classmethod
    def _only_postgresql(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("postgresql://", "postgres://")):
            raise ValueError("a URL that starts with postgresql://")
        return value

    @field_validator("broker_url")
    @classmethod
    def _known_broker(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(BROKERS):
            raise ValueError(f"a URL that starts with one of {', '.join(BROKERS)}")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read secrets from files last, if there is a folder of them; part of pydantic-settings.

        Raises:
            BadSetting: it is no folder.
        """
        folder = os.environ.get(SECRETS_DIR)
        if folder and not os.path.isdir(folder):
            raise BadSetting(SECRETS_DIR, folder, "a folder", "See docs/deploying.md.")
        files = SecretsSettingsSource(settings_cls, secrets_dir=folder or None)
        return init_settings, env_settings, dotenv_settings, files

    @property
    def artifacts_root(self) -> str:
        """Root of the artifact store as an fsspec URL or path."""
        return self.artifacts_url or str(self.home.absolute() / "artifacts")

    @property
    def engine_base_url(self) -> str:
        """OpenAI-compatible base URL (…/v1) of the server that runs our models."""
        return self.engine_url or f"http://127.0.0.1:{self.engine_port}/v1"


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Return the settings of this process.

    Raises:
        BadSetting: a variable has a value its field does not accept, or a file of secrets cannot
            be read.
    """
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = _variable(first["loc"][0])
        raise _bad_setting(name, first["input"], first["msg"]) from error
    except SettingsError as error:  # a list or mapping that is no JSON; the text names its field
        if isinstance(error.__cause__, OSError):
            expected = f"files that this user may read ({error.__cause__.strerror})"
            file = error.__cause__.filename
            raise BadSetting(SECRETS_DIR, file, expected, "See docs/deploying.md.") from error
        field = re.search(r'field "(\w+)"', str(error))
        name = _variable(field.group(1) if field else "settings")
        raise _bad_setting(name, os.environ.get(name), f"JSON ({error.__cause__})") from error


def _variable(field: str | int) -> str:
    return f"FLYWHEEL_{field}".upper()


def _bad_setting(name: str, value: Any, message: str) -> BadSetting:
    """Return the error, without the password of a URL and without what may hold keys."""
    shown = _PASSWORD.sub(r"\1***@", value) if isinstance(value, str) else value
    if name in _HOLDS_KEYS:
        shown = "a value that is not shown"
    expected = message.removeprefix("Value error, ").removeprefix("Input should be ")
    return BadSetting(name, shown, expected, "See docs/settings.md.")


_PASSWORD = re.compile(r"(://[^:/@\s]*:)[^/]*@")
_HOLDS_KEYS = (
    "FLYWHEEL_UPSTREAMS",
    "FLYWHEEL_API_KEY",
    "FLYWHEEL_METRICS_KEY",
    "FLYWHEEL_GITHUB_SECRET",
    "FLYWHEEL_OIDC_CLIENT_SECRET",
    "FLYWHEEL_SENTRY_DSN",
)


def require_safe_binding(
    host: str, api_key: SecretStr | None, metrics_key: SecretStr | None = None
) -> None:
    """Refuse to listen beyond this machine without a key, or with one that can be guessed.

    Raises:
        BadSetting: `host` is not a loopback address, and no key is set or a weak one; or the key of
            the figures is weak, or the master key.
    """
    if host not in LOOPBACK and api_key is None:
        raise BadSetting(
            "FLYWHEEL_HOST",
            host,
            "a loopback address unless FLYWHEEL_API_KEY is set",
            f"Set FLYWHEEL_API_KEY, for example to {secrets.token_urlsafe(24)!r}.",
        )
    given = {"FLYWHEEL_API_KEY": api_key, "FLYWHEEL_METRICS_KEY": metrics_key or None}
    for name, key in given.items():
        if host not in LOOPBACK and key is not None and is_weak(key.get_secret_value()):
            raise BadSetting(
                name,
                "a key that can be guessed",
                f"{SHORTEST_KEY} characters or more that nobody would think of, off loopback "
                f"(FLYWHEEL_HOST={host})",
                f"Set it, for example, to {secrets.token_urlsafe(24)!r}.",
            )
    if metrics_key and api_key and metrics_key == api_key:
        raise BadSetting(
            "FLYWHEEL_METRICS_KEY",
            "the value of FLYWHEEL_API_KEY",
            "a key of its own, which opens /metrics and nothing else",
            f"Set it, for example, to {secrets.token_urlsafe(24)!r}.",
        )


def is_weak(key: str) -> bool:
    """Say whether a key could be guessed: it is short, says what it is, or hardly varies."""
    said = key.lower()
    return len(key) < SHORTEST_KEY or len(set(said)) < 6 or any(word in said for word in _OBVIOUS)
