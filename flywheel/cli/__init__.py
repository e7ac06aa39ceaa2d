"""The command line: thin commands, one file per part of the wheel.

Nothing heavy is imported until a command runs, so `flywheel --help` is quick and works with the
base install.
"""

import typer

from flywheel.cli import (
    backup,
    budgets,
    campaign,
    constitution,
    data,
    datasets,
    dead_letters,
    decisions,
    distilling,
    erase,
    evaluation,
    feedback,
    keys,
    models,
    otel,
    pairs,
    protect,
    retention,
    review,
    runs,
    schedule,
    scrub,
    services,
    serving_cost,
    specialists,
    spool,
    suites,
    templates,
    traffic,
    training,
    users,
    watching,
)
from flywheel.cli.demo import demo
from flywheel.cli.prefer import prefer
from flywheel.cli.turn import turn
from flywheel.cli.version import show_version

app = typer.Typer(
    help="Agents that get better from their own work: log, curate, train, benchmark, A/B, promote.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
services.register(app)
data.register(app)
datasets.register(app)
erase.register(app)
backup.register(app)
retention.register(app)
templates.register(app)
protect.register(app)
campaign.register(app)
dead_letters.register(app)
feedback.register(app)
scrub.register(app)
spool.register(app)
training.register(app)
models.register(app)
suites.register(app)
evaluation.register(app)
serving_cost.register(app)
traffic.register(app)
specialists.register(app)
keys.register(app)
users.register(app)
budgets.register(app)
decisions.register(app)
otel.register(app)
review.register(app)
runs.register(app)
schedule.register(app)
pairs.register(app)
distilling.register(app)
constitution.register(app)
watching.register(app)
app.command()(prefer)
app.command()(turn)
app.command()(demo)
app.callback()(show_version)
