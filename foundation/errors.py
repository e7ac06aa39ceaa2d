"""The error family: each names the thing, its value, what was expected and what to do.

Doors map them once: the CLI prints the message and exits with `exit_code`, the web app answers
`http_status` with the message as JSON. Nothing else catches them.
"""

from typing import Any, ClassVar


class FlywheelError(Exception):
    """A mistake that its reader can repair, with the remedy in the text."""

    exit_code: ClassVar[int] = 2
    http_status: ClassVar[int] = 400


class BadInput(FlywheelError):
    """A value somebody gave is not acceptable."""

    def __init__(self, what: str, value: Any, expected: str, remedy: str) -> None:
        self.what, self.value, self.expected, self.remedy = what, value, expected, remedy
        shown = repr(value)
        shown = shown if len(shown) <= 200 else f"{shown[:200]}… ({len(shown)} characters)"
        super().__init__(f"{what}: got {shown}, expected {expected}. {remedy}")


class BadSetting(BadInput):
    """A setting of the deployment is wrong."""


class NotFound(BadInput):
    """A named thing (role, suite, dataset, run, model version) does not exist."""

    http_status = 404


class Conflict(BadInput):
    """The request contradicts the present state (already promoted, already running)."""

    http_status = 409


class TooLarge(BadInput):
    """A request is larger than a limit allows."""

    http_status = 413


class NotAuthorised(FlywheelError):
    """The caller gave no key, or one that does not open this door."""

    http_status = 401

    def __init__(
        self,
        door: str,
        remedy: str = "Set FLYWHEEL_API_KEY on both sides to the same value.",
        why: str | None = None,
    ) -> None:
        """Tell what is missing, or `why` a key that was made here opens no more."""
        given = "no valid API key given, expected 'Authorization: Bearer <key>'"
        super().__init__(f"{door}: {f'{why}, expected one that opens' if why else given}. {remedy}")


class Forbidden(BadInput):
    """The caller is known, and may not ask for this."""

    http_status = 403


class MissingExtra(FlywheelError):
    """An optional part of the product is not installed."""

    http_status = 501

    def __init__(self, module: str, extra: str) -> None:
        self.module, self.extra = module, extra
        super().__init__(
            f"module {module!r} is not installed, expected the extra [{extra}]. "
            f"Run: pip install 'agent-flywheel[{extra}]'"
        )


class DatabaseUnavailable(FlywheelError):
    """PostgreSQL does not answer."""

    http_status = 503

    def __init__(self, url: str, reason: str) -> None:
        self.url, self.reason = url, reason
        super().__init__(
            f"database {url}: cannot connect ({reason}), expected a running PostgreSQL. "
            "Check FLYWHEEL_DATABASE_URL, or unset it to use the embedded server."
        )


class ArtifactStoreUnavailable(FlywheelError):
    """The object store of the artifacts does not answer, or not to this process."""

    http_status = 503

    def __init__(self, base: str, reason: str) -> None:
        self.base, self.reason = base, reason
        super().__init__(
            f"artifact store {base}: refused ({reason}), expected a bucket that can be read and "
            "written. Check FLYWHEEL_ARTIFACTS_URL, the credentials (AWS_*) and the endpoint "
            "(AWS_ENDPOINT_URL_S3)."
        )


class ArtifactDamaged(FlywheelError):
    """What the store holds under a hash is something else."""

    http_status = 502

    def __init__(self, uri: str, base: str, found: str) -> None:
        self.uri, self.base, self.found = uri, base, found
        super().__init__(
            f"artifact {uri} of {base}: its content has the hash {found}, expected the one in its "
            "name. Restore it from a backup, or remove it and make it again."
        )


class DatabaseTooOld(FlywheelError):
    """The PostgreSQL server lacks features that the schema needs."""

    http_status = 503

    def __init__(self, version: str, minimum: int) -> None:
        self.version, self.minimum = version, minimum
        super().__init__(
            f"database server: version {version}, expected PostgreSQL {minimum} or newer. "
            "Upgrade the server, or unset FLYWHEEL_DATABASE_URL to use the embedded one."
        )


class SchemaMismatch(FlywheelError):
    """The database schema is not the one of this code."""

    http_status = 503

    def __init__(self, found: str | None, expected: str) -> None:
        self.found, self.expected = found, expected
        super().__init__(
            f"database schema: revision {found or 'none'}, expected {expected}. "
            "Run: flywheel db upgrade"
        )
