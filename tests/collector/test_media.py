import base64
import json
from hashlib import sha256
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text
from sqlmodel import Session, select

from collector.ingest import store_batch
from collector.media import SCHEME, extracted, may_hold_media
from collector.record import interaction_record
from collector.schemas import IngestBatch
from collector.scrub import RuleSet
from collector.tables import InteractionPayload, Media
from flywheel.app import create_app
from foundation.ids import new_id
from foundation.settings import get_settings

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
WAV = b"RIFF\xff\xff\xff\xffWAVEfmt " + bytes(range(256))
B64, SOUND = base64.b64encode(PNG).decode(), base64.b64encode(WAV).decode()
URL = f"data:image/png;base64,{B64}"
IMAGE = f"{SCHEME}sha256/{sha256(PNG).hexdigest()};type=image/png;size={len(PNG)}"


def reference(content: bytes, media_type: str) -> str:
    return f"{SCHEME}sha256/{sha256(content).hexdigest()};type={media_type};size={len(content)}"


SHAPES = {
    "chat image": (
        {"type": "image_url", "image_url": {"url": URL, "detail": "low"}},
        {"type": "image_url", "image_url": {"url": IMAGE, "detail": "low"}},
    ),
    "chat audio": (
        {"type": "input_audio", "input_audio": {"data": SOUND, "format": "wav"}},
        {
            "type": "input_audio",
            "input_audio": {"data": reference(WAV, "audio/wav"), "format": "wav"},
        },
    ),
    "chat file": (
        {"type": "file", "file": {"filename": "a.png", "file_data": URL}},
        {"type": "file", "file": {"filename": "a.png", "file_data": IMAGE}},
    ),
    "answered audio": (
        {"audio": {"id": "a", "data": SOUND, "transcript": "hi"}},
        {
            "audio": {
                "id": "a",
                "data": reference(WAV, "application/octet-stream"),
                "transcript": "hi",
            }
        },
    ),
    "responses image": (
        {"type": "input_image", "image_url": URL},
        {"type": "input_image", "image_url": IMAGE},
    ),
    "responses file": (
        {"type": "input_file", "filename": "x", "file_data": SOUND},
        {
            "type": "input_file",
            "filename": "x",
            "file_data": reference(WAV, "application/octet-stream"),
        },
    ),
    "made image": (
        {"type": "image_generation_call", "result": B64},
        {"type": "image_generation_call", "result": IMAGE},
    ),
    "anthropic": (
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": B64},
        },
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": IMAGE},
        },
    ),
    "google": (
        {"inline_data": {"mime_type": "image/png", "data": B64}},
        {"inline_data": {"mime_type": "image/png", "data": IMAGE}},
    ),
    "inside a text": (f"see ![x]({URL}) here", f"see ![x]({IMAGE}) here"),
}


@pytest.mark.parametrize("name", SHAPES)
def test_contents_give_way_to_references(name: str):
    raw, expected = SHAPES[name]
    assert may_hold_media(json.dumps(raw).encode())
    found, blobs = extracted([raw])
    assert found == [expected]
    assert [blob.content for blob in blobs] in ([PNG], [WAV])
    assert extracted(found) == (found, [])


@pytest.mark.parametrize(
    "value",
    [
        "an icon data:image/png;base64,AAAA in a text",
        "data:image/png;base64,not base64!",
        {"data": "hello", "format": 7},
        {"data": B64},
        {"type": "base64", "data": "<EMAIL_1>"},
        {"result": B64},
        "data:image/svg+xml,%3Csvg%3E",
    ],
)
def test_what_is_no_content_stays(value):
    assert extracted(value) == (value, [])


@pytest.fixture
def stored(session: Session) -> str:
    """The hash of an image that came twice in one record."""
    parts = [SHAPES["chat image"][0], {"type": "text", "text": f"again {URL}"}]
    record = interaction_record(
        new_id(), "coder", {"messages": [{"role": "user", "content": parts}]}, None
    )
    store_batch(session, IngestBatch(source="t", interactions=[record, record]))
    session.commit()
    return sha256(PNG).hexdigest()


def test_rows_hold_references_and_artifacts_the_bytes(session: Session, stored: str):
    (payload,) = session.exec(select(InteractionPayload)).all()
    assert B64[:40] not in json.dumps(payload.request)
    assert payload.request["messages"][0]["content"][0] == SHAPES["chat image"][1]
    (media,) = session.exec(select(Media)).all()
    assert (media.content_hash, media.media_type, media.size_bytes) == (
        stored,
        "image/png",
        len(PNG),
    )


def test_a_content_is_served_as_a_download_that_nothing_opens(session: Session, stored: str):
    with TestClient(create_app(), "http://127.0.0.1") as client:
        answer = client.get(f"/v1/media/{stored}")
        assert client.get(f"/v1/media/{'0' * 64}").status_code == 404
        assert client.get("/v1/media/..%2fx").status_code in (404, 422)
    assert answer.content == PNG
    assert answer.headers["content-type"] == "image/png"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "sandbox" in answer.headers["content-security-policy"]


def test_text_in_a_content_is_scrubbed_and_bytes_are_not_touched(session: Session):
    canary = "canary@secret.example.org"
    note = base64.b64encode(f"write to {canary}".encode()).decode()
    part = {"type": "file", "file": {"file_data": f"data:text/plain;base64,{note}"}}
    record = interaction_record(
        new_id(), "coder", {"messages": [{"role": "user", "content": [part]}]}, None
    )
    store_batch(session, IngestBatch(source="t", interactions=[record]))
    session.commit()
    dump = session.execute(text("SELECT CAST(p AS text) FROM interaction_payload p")).scalar_one()
    assert note not in dump
    root = Path(get_settings().artifacts_root)
    kept = [path.read_bytes() for path in root.rglob("*") if path.is_file()]
    assert kept == [b"write to <EMAIL_1>"]


def test_a_content_that_cannot_be_scrubbed_costs_its_own_record_only(session, monkeypatch):
    def broken(text: str) -> None:
        raise ZeroDivisionError(text)

    note = base64.b64encode(b"plain words").decode()
    url = f"data:text/plain;base64,{note}"
    records = [
        interaction_record(new_id(), "coder", {"messages": [], "file": one}, None)
        for one in (url, "none")
    ]
    rules = RuleSet()
    monkeypatch.setattr(rules, "findings", lambda text: "plain" in text and broken(text) or ())
    monkeypatch.setattr("collector.media.server_rules", lambda: rules)
    results = store_batch(session, IngestBatch(source="t", interactions=records))
    assert [one.reason for one in results] == ["scrub_failed: ZeroDivisionError", None]


def test_a_refused_record_leaves_its_contents_out_of_its_letter_too(session: Session):
    record = interaction_record(new_id(), "wizard", {"messages": [SHAPES["chat image"][0]]}, None)
    (result,) = store_batch(session, IngestBatch(source="t", interactions=[record]))
    assert result.reason.startswith("unknown_role")
    letter = session.execute(text("SELECT record FROM dead_letter")).scalar_one()
    assert IMAGE in letter
    assert len(session.exec(select(Media)).all()) == 1
