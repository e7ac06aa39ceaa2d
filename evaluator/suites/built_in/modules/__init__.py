"""The modules that testers write integration tests for: real ones, typed, linted and executed.

One file per family: two to four classes or functions that work together. Its docstring is the
specification; constants at its top are the rules that differ from variant to variant. The file of
the same name in `checks` says what the rules mean, which faults of wiring are planted, and holds
good tests. `family` says how the two become variants.
"""

from evaluator.suites.built_in.modules.family import Family, Fault, Variant, read_family

DOMAINS = {
    "web": ("cached_pages", "login_sessions", "request_pipeline", "listing", "rate_limits"),
    "data-science": (
        "csv_report",
        "cleaning_pipeline",
        "event_projection",
        "feature_encoding",
        "run_tracking",
    ),
    "devops": (
        "migrations",
        "config_layers",
        "deploy_states",
        "feature_rollout",
        "job_scheduler",
    ),
    "mobile": ("sync_engine", "offline_queue", "notifications", "image_store", "form_drafts"),
    "backend": ("orders", "worker_retries", "book_loans", "plugin_registry", "text_patches"),
}
"""The families of each domain."""


def families() -> list[Family]:
    """All families, by domain and then as listed."""
    return [read_family(name, domain) for domain, names in DOMAINS.items() for name in names]


def variants() -> list[Variant]:
    """All variants, in the order of their families."""
    return [variant for family in families() for variant in family.variants()]


__all__ = ["DOMAINS", "Family", "Fault", "Variant", "families", "read_family", "variants"]
