"""The proxies of docs/deploying.md, as the page has them, in front of service and gateway.

Names, ports and certificates are exchanged for those of the test, and nothing else.
"""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest
from by_hand import environment_with, wait_until
from deployed import PROJECT
from upstream_app import Server, create_upstream_app

from flywheel.invite import link_for
from flywheel.processes import Processes, free_port

pytestmark = pytest.mark.slow

KEY = "the-key-of-the-test-of-proxies"
SERVICE, GATEWAY = "flywheel.example.org", "gateway.example.org"


def block(begins: str) -> str:
    page = (PROJECT / "docs/deploying.md").read_text()
    found = re.search(rf"^```\w+\n({re.escape(begins)}.*?)^```$", page, re.DOTALL | re.MULTILINE)
    assert found, begins
    return found[1]


def nginx(folder: Path, port: int, behind: dict[str, int]) -> list[str]:
    """Write what the page says for the service, and "the gateway alike"; return the command."""
    certificate = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    certificate += ["-subj", "/CN=flywheel", "-keyout", "flywheel.key", "-out", "flywheel.pem"]
    subprocess.run(certificate, cwd=folder, check=True, capture_output=True)
    said = block("server {").replace("443", str(port)).replace("/etc/ssl", str(folder))
    servers = [
        said.replace(SERVICE, name).replace("8710", str(behind[name]))
        for name in (SERVICE, GATEWAY)
    ]
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    http = f"http {{ access_log off; {folders}\n{''.join(servers)} }}"
    top = f"user root; pid {folder}/pid; error_log {folder}/log; daemon off; events {{}}"
    (folder / "nginx.conf").write_text(f"{top}\n{http}\n")
    return ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf")]


def caddy(folder: Path, port: int, behind: dict[str, int]) -> list[str]:
    said = block(f"{SERVICE} {{")
    for name, written in ((SERVICE, "8710"), (GATEWAY, "8711")):
        said = said.replace(written, str(behind[name]))
    own = f"admin off\nhttp_port {free_port()}\nhttps_port {port}\nlocal_certs\nskip_install_trust"
    (folder / "Caddyfile").write_text(f"{{\n{own}\nstorage file_system {folder}/kept\n}}\n{said}")
    return ["caddy", "run", "--config", str(folder / "Caddyfile"), "--adapter", "caddyfile"]


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (folder / "told").open("wb") as told:
        process = subprocess.Popen(command, stdout=told, stderr=told)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)


def client_of(port: int, name: str) -> httpx.Client:
    """A client that calls the proxy by a name that no server of names knows."""

    def by_name(request: httpx.Request) -> None:
        request.extensions["sni_hostname"] = name

    headers = {"host": name, "authorization": f"Bearer {KEY}"}
    return httpx.Client(
        base_url=f"https://127.0.0.1:{port}", headers=headers, verify=False, timeout=60,
        event_hooks={"request": [by_name]},
    )  # fmt: skip


@pytest.mark.parametrize("proxy", [nginx, caddy], ids=["nginx", "caddy"])
def test_behind_the_proxy_of_the_page(proxy, database: str, tmp_path: Path) -> None:
    if shutil.which(proxy.__name__) is None:
        pytest.skip(f"{proxy.__name__} is not installed")
    port, behind = free_port(), {SERVICE: free_port(), GATEWAY: free_port()}
    with ExitStack() as stack:
        upstream = stack.enter_context(Server(create_upstream_app()))
        listed = {"mock": {"base_url": f"{upstream.url}/v1", "models": ["*"]}}
        variables = {"FLYWHEEL_API_KEY": KEY, "FLYWHEEL_UPSTREAMS": json.dumps(listed)}
        environment = environment_with(**variables, FLYWHEEL_HOME=str(tmp_path / "home"))
        processes = stack.enter_context(Processes(tmp_path, environment))
        for name, command in ((SERVICE, "serve"), (GATEWAY, "gateway")):
            processes.start(command, command, "--port", str(behind[name]))
        command = proxy(tmp_path, port, behind)
        process = stack.enter_context(running(command, tmp_path))
        service, gateway = (
            stack.enter_context(client_of(port, name)) for name in (SERVICE, GATEWAY)
        )

        def answers() -> bool:
            assert process.poll() is None, (tmp_path / "told").read_text()
            processes.check()
            try:
                return all(one.get("/healthz").status_code == 200 for one in (service, gateway))
            except httpx.TransportError:
                return False

        wait_until(answers, "an answer through the proxy", 120)
        code = {"code": link_for().split("#code=")[1]}
        own = {"origin": f"https://{SERVICE}"}
        elsewhere = service.post(
            "/admin/login/code", data=code, headers={"origin": "https://elsewhere.example.org"}
        )
        assert elsewhere.status_code == 403
        signed_in = service.post("/admin/login/code", data=code, headers=own)
        assert signed_in.status_code == 303, signed_in.text
        assert "Secure" in signed_in.headers["set-cookie"]
        large = service.post("/v1/ingest", content=b" " * (60 << 20) + b"\n")
        assert large.status_code == 400, "the service's own answer, not the proxy's 413"

        asked = {"model": "mock-1", "messages": [{"role": "user", "content": "drip"}]}
        address = "/r/coder/v1/chat/completions"
        with gateway.stream("POST", address, json={**asked, "stream": True}) as answer:
            lines = answer.iter_lines()
            assert next(lines).startswith("data: "), "a stream that never ends begins at once"
            assert not upstream.app.state.left.is_set()
        assert upstream.app.state.left.wait(20), "who leaves is known behind the proxy"
