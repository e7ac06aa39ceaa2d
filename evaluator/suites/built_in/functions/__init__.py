"""The functions that the coder and tester suites ask for: real ones, typed, linted and executed.

One file per domain and tier (`web_easy`, `web_medium`, ...; `tested` holds those that testers write
tests for). Each function is a family: its keyword-only parameters are rules that differ from
variant to variant, its docstring is the specification. `family` says how a family becomes variants,
`source` how a variant's own code is cut out of the function, `dice` how inputs are drawn.
"""

from importlib import import_module

from evaluator.suites.built_in.functions.family import Family, Variant

DOMAINS = ("web", "data-science", "devops", "mobile", "backend", "general")
TIERS = ("easy", "medium", "hard", "tested")


def families(tier: str) -> list[Family]:
    """All families of a tier, by domain and then as written."""
    return [family for domain in DOMAINS for family in _of_file(domain, tier)]


def variants(tier: str) -> list[Variant]:
    """All variants of a tier, in the order of their families."""
    return [variant for family in families(tier) for variant in family.variants()]


def _of_file(domain: str, tier: str) -> list[Family]:
    module = import_module(f"{__name__}.{domain.replace('-', '_')}_{tier}")
    return [item for item in vars(module).values() if isinstance(item, Family)]


__all__ = ["DOMAINS", "TIERS", "Family", "Variant", "families", "variants"]
