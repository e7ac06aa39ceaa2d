"""Front desk: what no dataset may teach, and the search for it.

Files: `protect` (the list), `block` (the step of a build), `check` (a `Guard` over a list: which
texts repeat which items); below it the methods: `reading` (a task apart from its wrapping),
`passages`, `streams`, `ngrams`, `neighbours`, `identifiers`.
"""

from curation.decontaminate.block import Decontaminated, decontaminate, strings_in
from curation.decontaminate.check import METHODS, Guard, Hit, Suspect
from curation.decontaminate.passages import ProtectedItem
from curation.decontaminate.protect import (
    Protected,
    Source,
    list_sources,
    protect,
    protected_items,
    protection_digest,
    unprotect,
)
from curation.score.outcome import CONTAMINATED

__all__ = [
    "CONTAMINATED",
    "METHODS",
    "Decontaminated",
    "Guard",
    "Hit",
    "Protected",
    "ProtectedItem",
    "Source",
    "Suspect",
    "decontaminate",
    "list_sources",
    "protect",
    "protected_items",
    "protection_digest",
    "strings_in",
    "unprotect",
]
