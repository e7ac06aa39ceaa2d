"""The router's figures: gateway, failover, promotion under load, budgets, statistics, real tests.

python -m benchmarks.router [--quick] [--only PART,PART]     (make bench-router)
"""

import sys

from benchmarks.bars import run_parts

PARTS = {
    "gateway": "benchmarks.router_gateway",
    "switch": "benchmarks.router_switch",
    "failover": "benchmarks.router_failover",
    "budgets": "benchmarks.router_budgets",
    "decision": "benchmarks.router_decision",
    "statistics": "benchmarks.router_statistics",
    "poisoning": "benchmarks.router_poisoning",
    "asos": "benchmarks.router_asos",
}

if __name__ == "__main__":
    sys.exit(run_parts("router", PARTS, __doc__ or ""))
