"""What agents did: client, spool, ingest, scrubbing, importers. Makes Interaction and Feedback.

Front desk: `collector.ingest` (storing records) and `collector.client` (logging them). Another
recorder, such as the gateway, shares the client's parts: record, scrub, spool, sender, streams.
"""
