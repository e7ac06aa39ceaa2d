"""Is it better: suites, sandbox, graders, paired comparison, deploy decision. Makes Verdict.

Front desk: `evaluator.run` (evaluations) and `evaluator.compare` (verdicts).
"""
