"""What paths say: role, episode, and what is asked for."""

import pytest

from router.paths import Place, place_of

CHAT = "/v1/chat/completions"


@pytest.mark.parametrize(
    ("path", "place"),
    [
        (CHAT, Place(CHAT)),
        (f"/r/coder{CHAT}", Place(CHAT, "coder")),
        (f"/r/coder/e/pull-17{CHAT}", Place(CHAT, "coder", "pull-17")),
        (f"/r/coder/e/acme/shop/pull/17{CHAT}", Place(CHAT, "coder", "acme/shop/pull/17")),
        (f"/r/coder/e/a/v1/b{CHAT}", Place(CHAT, "coder", "a/v1/b")),
        ("/r/coder/v1/models", Place("/v1/models", "coder")),
        (f"/r/{CHAT}", Place(f"/r/{CHAT}")),
        (f"/r/coder/e/{CHAT}", Place(f"/r/coder/e/{CHAT}")),
        ("/r/coder/e/x", Place("/r/coder/e/x")),
        ("/r/coder", Place("/r/coder")),
        ("/healthz", Place("/healthz")),
    ],
)
def test_a_path_is_read(path: str, place: Place) -> None:
    assert place_of(path) == place
