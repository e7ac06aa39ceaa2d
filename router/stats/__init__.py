"""The statistics of an experiment: pairs, canary, planned looks, guardrails, split, plan.

The evidence itself is `evaluator.evidence`, whose functions are offered here too.
`benchmarks/router_statistics.py` holds the realised error rates against alpha by simulation.

Everything here is pure: numbers in, numbers out.
"""

from evaluator.evidence import always_valid_p as always_valid_p
from evaluator.evidence import e_noninferior as e_noninferior
from evaluator.evidence import e_value as e_value
from evaluator.evidence import log_e_mean_above as log_e_mean_above
from evaluator.evidence import log_e_noninferior as log_e_noninferior
from evaluator.evidence import log_e_pairs as log_e_pairs
from evaluator.evidence import log_e_rate as log_e_rate
from evaluator.evidence import log_e_srm as log_e_srm
from router.stats.bounded import BoundedEvidence as BoundedEvidence
from router.stats.bounded import bounded_evidence as bounded_evidence
from router.stats.breaking import RateWatch as RateWatch
from router.stats.breaking import is_shared as is_shared
from router.stats.canary import canary_blocks as canary_blocks
from router.stats.canary import canary_differences as canary_differences
from router.stats.canary import canary_evidence as canary_evidence
from router.stats.classic import ClassicRecord as ClassicRecord
from router.stats.classic import classic_record as classic_record
from router.stats.guardrails import MARGINS as MARGINS
from router.stats.guardrails import GuardrailEvidence as GuardrailEvidence
from router.stats.guardrails import guardrail_evidence as guardrail_evidence
from router.stats.multiplicity import alpha_per_role as alpha_per_role
from router.stats.multiplicity import e_bh as e_bh
from router.stats.pairs import AssignedUnit as AssignedUnit
from router.stats.pairs import Pair as Pair
from router.stats.pairs import PairEvidence as PairEvidence
from router.stats.pairs import pair_differences as pair_differences
from router.stats.pairs import pair_evidence as pair_evidence
from router.stats.pairs import pair_outcomes as pair_outcomes
from router.stats.pairs import pair_units as pair_units
from router.stats.planned import Look as Look
from router.stats.planned import planned_looks as planned_looks
from router.stats.ramp import RampEvidence as RampEvidence
from router.stats.ramp import ramp_evidence as ramp_evidence
from router.stats.sequence import Difference as Difference
from router.stats.sequence import stratified_difference as stratified_difference
from router.stats.size import Size as Size
from router.stats.size import detectable_effect as detectable_effect
from router.stats.size import plan_size as plan_size
from router.stats.srm import PhaseSplit as PhaseSplit
from router.stats.srm import log_e_split as log_e_split
from router.stats.surely import settled_differences as settled_differences
from router.stats.surely import sure_pairs as sure_pairs
from router.stats.surely import sure_ramp as sure_ramp
from router.stats.units import UnitAnalysis as UnitAnalysis
from router.stats.units import analyse_units as analyse_units
from router.stats.units import too_few_units as too_few_units
from router.stats.units import unit_look as unit_look
