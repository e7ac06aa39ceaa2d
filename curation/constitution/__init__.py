"""Answers criticised and revised by principles: pairs of a revision over what it revises.

After "Constitutional AI" (Bai et al. 2022, 2212.08073), first stage: a model answers, says what a
drawn principle finds wrong with the answer, and writes a better one. `run` does a round of it.
"""
