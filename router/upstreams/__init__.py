"""Upstreams: the servers that calls are forwarded to, and how a call gets an answer from them.

Our engine (`FLYWHEEL_ENGINE_URL`) runs the model versions; further servers come from
`FLYWHEEL_UPSTREAMS`, or from the gateway's file (`FLYWHEEL_GATEWAY_FILE`), which also says how each
model is asked. A model that no upstream names goes to litellm, as `provider/model`.

Files: `server` (one upstream), `config` (the file), `watched` (its reload), `parameters` (what is
changed in a request), `routes` (who may answer), `health` (who is asked at present), `retry` (how
often), `probe` (is a server back), `forward` (all of it at work: the front desk), `page`.
"""

from router.upstreams.server import ANY_MODEL, ENGINE, Upstream, configured, engine, upstream_of

__all__ = ["ANY_MODEL", "ENGINE", "Upstream", "configured", "engine", "upstream_of"]
