"""The life of an experiment: its plan, ramp, evidence, rule, and what follows from it."""
