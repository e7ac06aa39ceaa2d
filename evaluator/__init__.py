"""Is it better: suites, sandbox, graders, paired comparison, deploy decision. Makes Verdict.

Front desk: `evaluator.run` (evaluations), `evaluator.compare` (verdicts) and `evaluator.tasks`
(both as jobs); for readers `evaluator.report`, `evaluator.taskwise` and `evaluator.drift`.
"""
