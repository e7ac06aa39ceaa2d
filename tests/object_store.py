"""A real S3 door on this machine: moto's server, with one empty bucket."""

import gc
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
import s3fs
from moto.server import ThreadedMotoServer

KEYS = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@contextmanager
def object_store() -> Iterator[str]:
    """Serve; yield the address."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    try:
        yield f"http://{host}:{port}"
    finally:
        _close_connections()
        server.stop()


def _close_connections() -> None:
    """Let s3fs close what it keeps open for the life of a process."""
    s3fs.S3FileSystem.clear_instance_cache()
    gc.collect()


def new_bucket(monkeypatch: pytest.MonkeyPatch, address: str) -> str:
    """Make a bucket and let this process's settings name it; return the root's URL."""
    from foundation.settings import get_settings

    for name, value in {**KEYS, "AWS_ENDPOINT_URL_S3": address}.items():
        monkeypatch.setenv(name, value)
    bucket = f"b{uuid.uuid4().hex[:12]}"
    with client(address) as others:
        others.create_bucket(Bucket=bucket)
    root = f"s3://{bucket}/wheel"
    monkeypatch.setenv("FLYWHEEL_ARTIFACTS_URL", root)
    get_settings.cache_clear()
    return root


@contextmanager
def client(address: str) -> Iterator[Any]:
    """The store by another client than ours."""
    made = boto3.client(
        "s3",
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )
    try:
        yield made
    finally:
        made.close()


def keys(address: str, root: str) -> list[str]:
    """Return what the root holds, as S3 lists it."""
    with client(address) as others:
        found = others.list_objects_v2(Bucket=root.split("/")[2])
    return [one["Key"].removeprefix("wheel/") for one in found.get("Contents", [])]


def other_machine(monkeypatch: pytest.MonkeyPatch, home) -> None:
    """Go on as a machine with a home of its own."""
    from foundation.settings import get_settings

    monkeypatch.setenv("FLYWHEEL_HOME", str(home))
    get_settings.cache_clear()
