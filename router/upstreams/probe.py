"""Is it back: the smallest question that tells, put by the gateway so that no caller has to wait.

A server that could not be reached is asked for its list of models; a model that failed or hung is
asked for one token. Any answer counts that does not say that the server is in trouble: a refusal
comes from somebody who is there.
"""

from urllib.parse import urlsplit

import aiohttp

from router.upstreams.retry import is_failure
from router.upstreams.server import Upstream

_QUESTION = [{"role": "user", "content": "ping"}]


async def is_back(upstream: Upstream, model: str | None, timeout_s: float) -> bool:
    """Return whether a server answers, or a model of it; never raises for its sake.

    Over a connection of its own, since a kept one proves nothing.

    Args:
        upstream: the server.
        model: None for the server itself.
        timeout_s: longest wait, in seconds.
    """
    # A name and password in the address are a header already, and aiohttp takes no second one.
    has_login = urlsplit(upstream.base_url).username is not None
    is_bearer = upstream.api_key is not None and not has_login
    headers = {"authorization": f"Bearer {upstream.api_key}"} if is_bearer else {}
    asked = {"model": model, "messages": _QUESTION, "max_tokens": 1}
    timeout = aiohttp.ClientTimeout(total=timeout_s)
    proxy = upstream.proxy
    try:
        async with aiohttp.ClientSession(headers=headers, timeout=timeout) as client:
            if model is None:
                asking = client.get(upstream.models_url, proxy=proxy)
            else:
                asking = client.post(upstream.chat_url, json=asked, proxy=proxy)
            async with asking as answer:
                await answer.read()
                return not is_failure(answer.status)
    except (TimeoutError, aiohttp.ClientError):
        return False
