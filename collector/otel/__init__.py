"""OpenTelemetry, both ways: `gen_ai` spans and events become records, and records become spans.

`mapping` is the one table of names, by version; `messages` knows the shapes that content comes in;
`read` makes records of an export request, `api` is its HTTP door, `export` sends the log on.
"""
