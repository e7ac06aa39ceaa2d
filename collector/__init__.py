"""What agents did, brought in by every way there is. Makes Interaction and Feedback.

`client` and `wrappers` log calls, `spool` keeps them until `sender` has shipped them, `scrub` takes
out what must not rest; `ingest` stores. `feedback`, `importers`, `otel` and `campaign` are the
other ways in, and all of them end in `ingest`.

Front desk: `collector.ingest` (storing records) and `collector.client` (logging them). Another
recorder, such as the gateway, shares the client's parts: record, scrub, spool, sender, streams.
"""
