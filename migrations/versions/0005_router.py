"""Router: keys, budgets, usage, ramps, policies of roles, what the gateway learned and reports.

Revision: 0005, after 0004.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
revision = '0005'
down_revision = '0004'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('budget_lease',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('scope', sa.String(), nullable=False),
    sa.Column('measure', sa.String(), nullable=False),
    sa.Column('starts_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('amount', sa.Float(), nullable=False),
    sa.Column('process_id', sa.Uuid(), nullable=False),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_budget_lease'))
    )
    op.create_index('ix_budget_lease_window', 'budget_lease', ['scope', 'measure', 'starts_at'], unique=False)
    op.create_table('budget_limit',
    sa.Column('scope', sa.String(), nullable=False),
    sa.Column('measure', sa.String(), nullable=False),
    sa.Column('amount', sa.Float(), nullable=False),
    sa.Column('actor', sa.String(), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('scope', 'measure', name=op.f('pk_budget_limit'))
    )
    op.create_table('budget_window',
    sa.Column('scope', sa.String(), nullable=False),
    sa.Column('measure', sa.String(), nullable=False),
    sa.Column('starts_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('used', sa.Float(), nullable=False),
    sa.Column('leased', sa.Float(), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('scope', 'measure', 'starts_at', name=op.f('pk_budget_window'))
    )
    op.create_table('gateway_key',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('prefix', sa.String(), nullable=False),
    sa.Column('key_hash', sa.String(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('roles', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    sa.Column('projects', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    sa.Column('limits', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('actor', sa.String(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('revoked_at', sa.DateTime(timezone=True), nullable=True),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_gateway_key')),
    sa.UniqueConstraint('key_hash', name=op.f('uq_gateway_key_key_hash')),
    sa.UniqueConstraint('name', name=op.f('uq_gateway_key_name'))
    )
    op.create_table('gateway_process',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('host', sa.String(), nullable=False),
    sa.Column('pid', sa.Integer(), nullable=False),
    sa.Column('state', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('seen_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_gateway_process'))
    )
    op.create_table('usage_day',
    sa.Column('day', sa.Date(), nullable=False),
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('project', sa.String(), nullable=False),
    sa.Column('model', sa.String(), nullable=False),
    sa.Column('key_name', sa.String(), nullable=False),
    sa.Column('n_calls', sa.BigInteger(), nullable=False),
    sa.Column('n_errors', sa.BigInteger(), nullable=False),
    sa.Column('n_cached', sa.BigInteger(), nullable=False),
    sa.Column('n_estimated', sa.BigInteger(), nullable=False),
    sa.Column('n_unpriced', sa.BigInteger(), nullable=False),
    sa.Column('input_tokens', sa.BigInteger(), nullable=False),
    sa.Column('output_tokens', sa.BigInteger(), nullable=False),
    sa.Column('cost_usd', sa.Float(), nullable=False),
    sa.PrimaryKeyConstraint('day', 'role', 'project', 'model', 'key_name', name=op.f('pk_usage_day'))
    )
    op.create_table('specialist_fit',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('n_outcomes', sa.Integer(), nullable=False),
    sa.Column('fitted', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('report', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('decision_id', sa.Uuid(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['decision_id'], ['decision.id'], name=op.f('fk_specialist_fit_decision_id_decision')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_specialist_fit'))
    )
    op.create_index(op.f('ix_specialist_fit_role'), 'specialist_fit', ['role'], unique=False)
    op.create_table('role_policy',
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('auto_promote', sa.String(), nullable=False),
    sa.Column('hold_back_share', sa.Float(), nullable=False),
    sa.Column('emergency_since', sa.DateTime(timezone=True), nullable=True),
    sa.Column('baseline_model_version_id', sa.Uuid(), nullable=True),
    sa.Column('settings', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('actor', sa.String(), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['baseline_model_version_id'], ['model_version.id'], name=op.f('fk_role_policy_baseline_model_version_id_model_version')),
    sa.PrimaryKeyConstraint('role', name=op.f('pk_role_policy'))
    )
    op.create_table('experiment_phase',
    sa.Column('experiment_id', sa.Uuid(), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('share', sa.Float(), nullable=False),
    sa.Column('reason', sa.String(), nullable=False),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['experiment_id'], ['experiment.id'], name=op.f('fk_experiment_phase_experiment_id_experiment')),
    sa.PrimaryKeyConstraint('experiment_id', 'number', name=op.f('pk_experiment_phase'))
    )
    op.create_table('guard_watch',
    sa.Column('promotion_id', sa.Uuid(), nullable=False),
    sa.Column('state', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('watermark', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['promotion_id'], ['promotion.id'], name=op.f('fk_guard_watch_promotion_id_promotion')),
    sa.PrimaryKeyConstraint('promotion_id', name=op.f('pk_guard_watch'))
    )
    op.add_column('assignment', sa.Column('phase', sa.Integer(), nullable=False, server_default='0'))
    op.add_column('assignment', sa.Column('n_refusals', sa.Integer(), nullable=False, server_default='0'))
    op.add_column('assignment', sa.Column('n_tool_calls', sa.Integer(), nullable=False, server_default='0'))
    op.add_column('assignment', sa.Column('n_bad_tool_calls', sa.Integer(), nullable=False, server_default='0'))
    op.add_column('assignment', sa.Column('n_fallbacks', sa.Integer(), nullable=False, server_default='0'))
    op.add_column('assignment', sa.Column('cost_usd', sa.Float(), nullable=False, server_default='0'))
    op.add_column('assignment', sa.Column('tokens', sa.BigInteger(), nullable=False, server_default='0'))
    op.add_column('assignment', sa.Column('n_tasks', sa.Integer(), nullable=False, server_default='0'))
    op.add_column('assignment', sa.Column('n_successes', sa.Integer(), nullable=False, server_default='0'))
    op.add_column('assignment', sa.Column('score', sa.Float(), nullable=True))
    op.add_column('experiment', sa.Column('kind', sa.String(), nullable=False, server_default='ab'))
    op.add_column('experiment', sa.Column('unit_kind', sa.String(), nullable=False, server_default='episode'))
    op.add_column('experiment', sa.Column('phase', sa.Integer(), nullable=False, server_default='0'))
    op.add_column('experiment', sa.Column('proposed_at', sa.DateTime(timezone=True), nullable=True))
    op.execute(
        "INSERT INTO experiment_phase (experiment_id, number, share, reason, started_at) "
        "SELECT id, 0, treatment_share, 'started', started_at FROM experiment"
    )
    for table, column in _FILLED:
        op.alter_column(table, column, server_default=None)


_FILLED = (
    ('assignment', 'phase'),
    ('assignment', 'n_refusals'),
    ('assignment', 'n_tool_calls'),
    ('assignment', 'n_bad_tool_calls'),
    ('assignment', 'n_fallbacks'),
    ('assignment', 'cost_usd'),
    ('assignment', 'tokens'),
    ('assignment', 'n_tasks'),
    ('assignment', 'n_successes'),
    ('experiment', 'kind'),
    ('experiment', 'unit_kind'),
    ('experiment', 'phase'),
)


def downgrade() -> None:
    op.drop_column('experiment', 'proposed_at')
    op.drop_column('experiment', 'phase')
    op.drop_column('experiment', 'unit_kind')
    op.drop_column('experiment', 'kind')
    op.drop_column('assignment', 'score')
    op.drop_column('assignment', 'n_successes')
    op.drop_column('assignment', 'n_tasks')
    op.drop_column('assignment', 'tokens')
    op.drop_column('assignment', 'cost_usd')
    op.drop_column('assignment', 'n_fallbacks')
    op.drop_column('assignment', 'n_bad_tool_calls')
    op.drop_column('assignment', 'n_tool_calls')
    op.drop_column('assignment', 'n_refusals')
    op.drop_column('assignment', 'phase')
    op.drop_table('guard_watch')
    op.drop_table('experiment_phase')
    op.drop_table('role_policy')
    op.drop_index(op.f('ix_specialist_fit_role'), table_name='specialist_fit')
    op.drop_table('specialist_fit')
    op.drop_table('usage_day')
    op.drop_table('gateway_process')
    op.drop_table('gateway_key')
    op.drop_table('budget_window')
    op.drop_table('budget_limit')
    op.drop_index('ix_budget_lease_window', table_name='budget_lease')
    op.drop_table('budget_lease')
