"""Mutation testing of tests: how many small changes of a reference do they notice?

Front desk: `score.measure(trials, sandbox)`. Files: `operators` (what a mutant changes), `mutants`
(all of a module), `rewrite` (showing reference and mutants so that tests cannot tell them apart),
`coverage` (of branches, from traced steps), `score` (the runs and the verdict). The runs themselves
are `evaluator.sandbox.Cases`.
"""
