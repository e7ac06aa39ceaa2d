"""What people look at and say: the queue, leases, labels, agreement.

Front desk: `queue` (what comes in), `leases` (who looks at what), `cards` (what they see), `labels`
(what they say), `agreement` and `workload` (how it goes), `samples` (answers of evaluations).
`effects` says what follows from labels.
"""
