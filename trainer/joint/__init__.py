"""Several roles' adapters learned at once over one frozen base, each exactly as if it were alone.

One forward pass takes rows of all roles; `mixed` sends each through its own adapter. A `learner` is
what one role has of its own: order of rows, optimizer, schedule, clipping, early stop, best
weights. `training` is a step of all of them, `fit` the loop, `checkpoint` what it leaves on disk,
`run` and `tasks` the job.
"""
