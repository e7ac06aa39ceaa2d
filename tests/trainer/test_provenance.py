"""A version is what was registered and signed, or nothing reads its files."""

import base64
import json
import os
import pickle
import re
import subprocess
from pathlib import Path

import pytest
from adapters_on_disk import adapter, halves, stored, weights
from sqlmodel import Session

from foundation import artifacts
from foundation.errors import BadInput, BadSetting
from foundation.settings import get_settings
from foundation.tables import Run
from serving import deploy
from trainer import provenance, registry, signing
from trainer.safe_files import require_safe
from trainer.tables import ModelVersion, TrainingRun


def trained(session: Session, artifact: artifacts.Artifact) -> ModelVersion:
    run = Run(kind="trainer.train")
    session.add(run)
    session.flush()
    training = TrainingRun(
        run_id=run.id, role="coder", base_model="/base", method="sft-lora",
        manifest={"recipe_hash": "r", "base_hash": "b"},
    )  # fmt: skip
    session.add(training)
    session.flush()
    return registry.register_adapter(session, training, artifact, {})


@pytest.fixture
def version(session, tmp_path) -> ModelVersion:
    return trained(session, artifacts.put(adapter(tmp_path / "made", {"q": halves(2, 1)})))


def folder_of(version: ModelVersion) -> Path:
    return Path(get_settings().artifacts_root) / str(version.artifact_uri)


def setting(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(f"FLYWHEEL_{name}", value)
    get_settings.cache_clear()


def test_a_version_is_signed_when_it_is_registered(session, version) -> None:
    told = provenance.told_by(version)
    assert told is not None
    assert [one["name"] for one in told["subject"]] == [
        "adapter_config.json", "adapter_model.safetensors",
    ]  # fmt: skip
    assert told["predicate"]["version"]["name"] == "coder-v1"
    assert told["predicate"]["recipe_hash"] == "r"
    assert provenance.check(version, folder_of(version)).status == "verified"
    assert registry.version_folder(version) == folder_of(version)
    key = get_settings().home / "keys" / "signing.pem"
    assert key.stat().st_mode & 0o777 == 0o600
    made = registry.register_made(
        session, version, "merged", stored("m"), made_by={"of": ["coder-v1"]}, metrics={}
    )
    told = provenance.told_by(made)
    assert told["predicate"]["parent"]["content_hash"] == version.content_hash
    assert provenance.check(made, None).status == "verified"


def test_others_can_verify_it_as_the_page_says(version, tmp_path, monkeypatch) -> None:
    page = (Path(__file__).parents[2] / "docs/provenance.md").read_text()
    part = page.partition("## To verify it elsewhere")[2]
    python, shell = re.findall(r"```(?:python|sh)\n(.*?)```", part, re.DOTALL)[:2]
    (tmp_path / "envelope.json").write_text(json.dumps(version.attestation))
    key = signing.signing_key().public_key()
    (tmp_path / "signer.pem").write_text(signing.public_pem(key))
    monkeypatch.chdir(tmp_path)
    exec(python, {})
    done = subprocess.run(shell.split(), capture_output=True, text=True, check=False)
    assert "Verified Successfully" in done.stdout, done.stderr


@pytest.mark.parametrize("way", ["flipped", "missing", "added", "config", "link"])
def test_changed_files_are_read_by_nobody(session, version, way) -> None:
    folder = folder_of(version)
    file = folder / "adapter_model.safetensors"
    if way == "flipped":
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    elif way == "missing":
        file.unlink()
    elif way == "added":
        (folder / "notes.txt").write_text("hello")
    elif way == "config":
        (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "lora_alpha": 999}')
    else:
        file.rename(folder.parent / "moved")
        os.symlink(folder.parent / "other", file)
    with pytest.raises(provenance.Untrusted, match="altered"):
        registry.version_folder(version)
    with pytest.raises(deploy.DeployFailed, match="altered"):
        deploy.prepare(session, version)
    assert deploy.warm(session, version) is False
    assert provenance.check(version, None).status == "verified"  # the row was not touched


@pytest.mark.parametrize("way", ["name", "hash", "payload", "signature", "foreign"])
def test_a_changed_row_or_manifest_serves_nobody(session, version, way) -> None:
    envelope = dict(version.attestation)
    if way == "name":
        version.name = "coder-v9"
    elif way == "hash":
        other = stored("z")
        version.artifact_uri, version.content_hash = other.uri, other.content_hash
    elif way == "payload":
        told = json.loads(signing.payload_of(envelope))
        told["predicate"]["recipe_hash"] = "another"

        text = base64.b64encode(json.dumps(told).encode()).decode()
        version.attestation = {**envelope, "payload": text}
    elif way == "signature":
        version.attestation = {**envelope, "signatures": [
            {**envelope["signatures"][0], "sig": "AAAA"}
        ]}  # fmt: skip
    else:
        version.attestation = {"payloadType": "text/plain"}
    session.add(version)
    session.flush()
    with pytest.raises(provenance.Untrusted, match="altered"):
        registry.set_stage(session, version, "production")
    assert version.stage == "candidate"


def test_who_may_sign_is_the_deployment_s_to_say(session, version, monkeypatch, tmp_path) -> None:
    own = signing.signing_key().public_key()
    os.rename(get_settings().home / "keys" / "signing.pem", tmp_path / "old.pem")
    other = signing.signing_key().public_key()  # of another machine
    assert provenance.require_trusted(version) == "unknown_signer"  # told of, and used
    setting(monkeypatch, "REQUIRE_SIGNED", "true")
    with pytest.raises(provenance.Untrusted, match="no key that counts"):
        registry.version_folder(version)
    setting(monkeypatch, "REQUIRE_SIGNED", "false")
    setting(monkeypatch, "TRUSTED_SIGNERS", json.dumps([other.public_bytes_raw().hex()]))
    with pytest.raises(provenance.Untrusted, match="unknown_signer"):
        registry.version_folder(version)
    (tmp_path / "own.pem").write_text(signing.public_pem(own))
    setting(monkeypatch, "TRUSTED_SIGNERS", json.dumps([str(tmp_path / "own.pem")]))
    assert provenance.require_trusted(version, folder_of(version)) == "verified"
    version.attestation = None  # from before there were signatures
    assert registry.version_folder(version)
    setting(monkeypatch, "REQUIRE_SIGNED", "true")
    with pytest.raises(provenance.Untrusted, match="unsigned"):
        registry.version_folder(version)
    setting(monkeypatch, "TRUSTED_SIGNERS", '["nowhere.pem"]')
    with pytest.raises(BadSetting, match="nowhere.pem"):
        signing.trusted_keys()
    setting(monkeypatch, "SIGNING_KEY", str(tmp_path / "own.pem"))
    with pytest.raises(BadSetting, match="own.pem"):
        signing.signing_key()


class Payload:
    """What a malicious pickle does when it is read: it writes a file."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.system, (f"touch {self.marker}",)


def test_a_pickle_in_an_adapter_is_never_read(session, tiny_base, tmp_path) -> None:
    from foundation.runs import RunHandle
    from trainer.base import load_model
    from trainer.export import run as exports
    from trainer.export.merge import over

    marker = tmp_path / "pwned"
    folder = tmp_path / "evil"
    folder.mkdir()
    (folder / "adapter_config.json").write_text(
        json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"],
                    "task_type": "CAUSAL_LM", "base_model_name_or_path": str(tiny_base)})
    )  # fmt: skip
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Payload(marker)))
    artifact = artifacts.put(folder)
    with pytest.raises(BadInput, match=r"adapter_model\.bin"):
        trained(session, artifact)
    smuggled = ModelVersion(
        role="coder", number=7, name="coder-v7", kind="adapter", base_model=str(tiny_base),
        artifact_uri=artifact.uri, content_hash=artifact.content_hash,
    )  # fmt: skip
    session.add(smuggled)  # by who can write to the database
    session.flush()
    with pytest.raises(BadInput, match="no pickle"):
        registry.version_folder(smuggled)  # evaluate, export, combine, go on from it
    with pytest.raises(deploy.DeployFailed, match="no pickle"):
        deploy.prepare(session, smuggled)
    run = Run(kind="trainer.export")
    session.add(run)
    session.commit()
    handle = RunHandle(run, "a worker")
    for made in (
        lambda: exports.export(handle, smuggled.id, "safetensors", None),
        lambda: exports.merge(handle, smuggled.id),
    ):
        with pytest.raises(BadInput, match="no pickle"):
            made()
    with pytest.raises(Exception, match=r"(?i)weights_only|safetensors|pickle|unsafe"):
        over(load_model(str(tiny_base)), folder)
    with pytest.raises(BadInput, match="no pickle"):
        require_safe("adapter 'x'", folder, needs_weights=False)
    assert not marker.exists()
    pickle.loads((folder / "adapter_model.bin").read_bytes())
    assert marker.exists()  # it would have worked


def header(text: bytes, claimed: int | None = None) -> bytes:
    return (len(text) if claimed is None else claimed).to_bytes(8, "little") + text


NAN = header(b'{"w":{"dtype":"BF16","shape":[1],"data_offsets":[0,2]}}') + b"\xc0\x7f"


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("adapter_model.safetensors", header(b"{}", 10**12), "a header of 1000000000000"),
        ("adapter_model.safetensors", header(b"[" * 5000), "safetensors"),
        ("adapter_model.safetensors", NAN, "finite weights"),
        (
            "adapter_model.safetensors",
            header(b'{"w":{"dtype":"F32","shape":[9],"data_offsets":[0,36]}}'),
            "36 of 0 bytes",
        ),
        ("adapter_config.json", b'{"auto_map": {"AutoModel": "evil.Model"}}', "auto_map"),
        ("adapter_config.json", b'{"megatron_config": {"a": 1}}', "megatron_config"),
        ("adapter_config.json", b'{"auto_mapping": {"parent_library": "os"}}', "auto_mapping"),
        ("adapter_config.json", b'{"target_modules": "(a+)+$"}', "target_modules"),
        ("adapter_config.json", b'{"layers_pattern": ["(a+)+$"]}', "layers_pattern"),
        ("adapter_config.json", b'{"alpha_pattern": {"(a+)+$": 1}}', "alpha_pattern"),
        ("adapter_config.json", b'{"peft_type": "XLORA"}', "peft_type"),
        ("adapter_config.json", b"[", "JSON"),
        ("config.json", b'{"auto_map": {"AutoModel": "evil.Model"}}', "auto_map"),
        ("modeling_evil.py", b"import os", "no code"),
        ("weights", b"PK\x03\x04", "no pickle"),
    ],
)
def test_foreign_folders_are_refused_by_what_is_in_them(tmp_path, name, content, told) -> None:
    (tmp_path / "model.safetensors").write_bytes(weights("fine"))
    require_safe("files", tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadInput, match=told):
        require_safe("files", tmp_path)


def test_links_that_lead_out_are_refused_and_code_only_where_its_base_is_trusted(tmp_path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(weights("fine"))
    (folder / "inside").symlink_to(folder / "model.safetensors")
    (folder / "modeling.py").write_text("1")
    require_safe("files", folder, may_have_code=True)
    (tmp_path / "secret").write_text("s")
    (folder / "out").symlink_to(tmp_path / "secret")
    with pytest.raises(BadInput, match="no link that leads out"):
        require_safe("files", folder, may_have_code=True)
