"""Which of it is worth learning: clean, dedupe, score, balance, split. Makes Dataset and Example.

Front desk: `curation.build` (a dataset of one role) and `curation.export` (its files).
"""
