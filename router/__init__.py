"""Who answers: gateway, assignment, A/B statistics, promotion and rollback. Makes Promotion.

Front desk: `router.experiment` (experiments) and `router.promote` (who serves a role).
"""
