"""The life of an experiment, a file per subject.

`plan` what decides it, `units` who gets which arm, `outcomes` what became of them, `pairing` who is
compared with whom, `guardrails` what must not get worse, `evidence` all of it read from the rows,
`rule` what follows, `ramp` how its share grows, `running` which there are, `life` from start to
end, `hold_back` what goes on after a promotion, `planning` what an experiment could show, `report`
how it stands.

Others ask `router.experiment`, which names what they need.
"""
