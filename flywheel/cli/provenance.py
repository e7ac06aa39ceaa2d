"""Commands on the signed manifests of model versions: verify, show, sign."""

from typing import Annotated

import typer

from flywheel.cli.output import AsJson, console, print_fields, print_json

Version = Annotated[str, typer.Argument(help="Name or id of the model version.")]


def register(versions: typer.Typer) -> None:
    """Add the commands of this file to the group `model`."""
    versions.command("verify")(verify)
    versions.command("manifest")(manifest)
    versions.command("sign")(sign)
    versions.command("signer")(signer)


def verify(version: Version, as_json: AsJson = False) -> None:
    """Compare a version with its signed manifest; exit code 1 unless it is verified."""
    from dataclasses import asdict

    from flywheel.schema import require_current
    from foundation import artifacts
    from foundation.database import session_scope
    from trainer.provenance import NO_FILES, VERIFIED, check
    from trainer.registry import get_version, require_files

    require_current()
    with session_scope() as session:
        found = get_version(session, version)
        require_files(found)
        folder = None if found.artifact_uri is None else artifacts.fetch(found.artifact_uri)
        checked = check(found, folder)
        said = {"version": found.name, **asdict(checked)}
    print_json(said) if as_json else print_fields(
        {**said, "reasons": "; ".join(checked.reasons) or None}
    )
    if checked.status not in (VERIFIED, NO_FILES):
        raise typer.Exit(1)


def manifest(
    version: Version,
    envelope: Annotated[
        bool, typer.Option("--envelope", help="As it is stored, with the signature (DSSE).")
    ] = False,
) -> None:
    """Print what is signed of a version, as JSON."""
    from flywheel.schema import require_current
    from foundation.database import session_scope
    from foundation.errors import NotFound
    from trainer.provenance import told_by
    from trainer.registry import get_version

    require_current()
    with session_scope() as session:
        found = get_version(session, version)
        told = found.attestation if envelope else told_by(found)
    if told is None:
        remedy = f"Sign it as it is: flywheel model sign {version}"
        raise NotFound("manifest of", version, "a version that was signed", remedy)
    print_json(told)


def sign(
    version: Version,
    reason: Annotated[str, typer.Option(help="Why it is to be trusted as it is.")],
    as_json: AsJson = False,
) -> None:
    """Sign a version as it is now, with this machine's key; what runs code is refused."""
    from flywheel.schema import require_current
    from foundation import artifacts, decisions
    from foundation.database import session_scope
    from foundation.errors import NotFound
    from foundation.settings import get_settings
    from trainer.provenance import attest, check
    from trainer.registry import get_version, require_files
    from trainer.safe_files import require_safe

    require_current()
    settings = get_settings()
    with session_scope() as session:
        found = get_version(session, version)
        require_files(found)
        if found.artifact_uri is None:
            raise NotFound("files of", version, "a version with files", "A base is not ours.")
        folder = artifacts.fetch(found.artifact_uri)
        before = check(found, folder)
        trusts = found.base_model in settings.trusted_bases
        require_safe(f"files of {found.name}", folder, may_have_code=trusts)
        attest(session, found, folder, signed_by=settings.admin_user)
        after = check(found, folder)
        decisions.record(
            session,
            "trainer.sign",
            after.status,
            [reason, f"before: {before.status}", *before.reasons],
            inputs={"version": found.name, "signer": after.signer},
            role=found.role,
            subject_id=found.id,
            actor=settings.admin_user,
        )
        said = {"version": found.name, "was": before.status, "is": after.status}
    print_json(said) if as_json else print_fields(said)


def signer(as_json: AsJson = False) -> None:
    """Print the public key that this machine signs with, for FLYWHEEL_TRUSTED_SIGNERS."""
    from trainer.signing import key_id, public_pem, signing_key

    key = signing_key().public_key()
    if as_json:
        print_json({"keyid": key_id(key), "raw": key.public_bytes_raw().hex()})
        return
    console.print(public_pem(key).strip(), highlight=False)
    console.print(f"raw: {key.public_bytes_raw().hex()}", highlight=False, soft_wrap=True)
