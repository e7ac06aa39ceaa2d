"""Live experiments, the front desk: start, assign, collect outcomes, and decide by evidence.

The unit is an episode: its arm is drawn by hash and written down before its first call. What
happens counts for the arm that was assigned (intention to treat), upstream failures and time-outs
too. `evaluate` may run after every outcome; a final state is final, repeating it changes nothing.
Each subject has its file in `router.experiments`; here is what others need of them.
"""

from router.experiments.evidence import ARMS as ARMS
from router.experiments.evidence import Evidence as Evidence
from router.experiments.evidence import gather as gather
from router.experiments.life import accept as accept
from router.experiments.life import evaluate as evaluate
from router.experiments.life import get_experiment as get_experiment
from router.experiments.life import list_experiments as list_experiments
from router.experiments.life import start as start
from router.experiments.life import stop as stop
from router.experiments.looks import read_looks as read_looks
from router.experiments.outcomes import collect_outcomes as collect_outcomes
from router.experiments.plan import PLANS as PLANS
from router.experiments.plan import ExperimentPlan as ExperimentPlan
from router.experiments.plan import plan_from as plan_from
from router.experiments.plan import plan_of as plan_of
from router.experiments.planning import Outlook as Outlook
from router.experiments.planning import outlook as outlook
from router.experiments.report import ExperimentStatus as ExperimentStatus
from router.experiments.report import more_per_arm as more_per_arm
from router.experiments.report import status as status
from router.experiments.rule import hold_back_rule as hold_back_rule
from router.experiments.rule import ramp_rule as ramp_rule
from router.experiments.rule import rule as rule
from router.experiments.rule import splits_of as splits_of
from router.experiments.running import running_experiments as running_experiments
from router.experiments.units import UnitCall as UnitCall
from router.experiments.units import arm_of_unit as arm_of_unit
from router.experiments.units import assign as assign
from router.experiments.units import record_call as record_call
from router.experiments.units import record_calls as record_calls
from router.experiments.voices import Voice as Voice
from router.experiments.voices import read_voices as read_voices
from router.tables import Experiment as Experiment
