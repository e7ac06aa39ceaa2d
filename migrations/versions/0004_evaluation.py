"""Evaluation: frozen suites, cached answers, judgements, drift, what graders measure.

Revision: 0004, after 0003.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
revision = '0004'
down_revision = '0003'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('judgement',
    sa.Column('key', sa.String(), nullable=False),
    sa.Column('judge', sa.String(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('rubric', sa.String(), nullable=False),
    sa.Column('task_hash', sa.String(), nullable=False),
    sa.Column('first_hash', sa.String(), nullable=False),
    sa.Column('second_hash', sa.String(), nullable=True),
    sa.Column('said', sa.String(), nullable=True),
    sa.Column('score', sa.Float(), nullable=True),
    sa.Column('reason', sa.String(), nullable=True),
    sa.Column('cost_usd', sa.Float(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('key', name=op.f('pk_judgement'))
    )
    op.create_table('cached_answer',
    sa.Column('key', sa.String(), nullable=False),
    sa.Column('model_hash', sa.String(), nullable=False),
    sa.Column('text', sa.String(), nullable=False),
    sa.Column('output_tokens', sa.Float(), nullable=True),
    sa.Column('latency_ms', sa.Float(), nullable=True),
    sa.Column('ttft_ms', sa.Float(), nullable=True),
    sa.Column('run_id', sa.Uuid(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['run_id'], ['run.id'], name=op.f('fk_cached_answer_run_id_run')),
    sa.PrimaryKeyConstraint('key', name=op.f('pk_cached_answer'))
    )
    op.create_index(op.f('ix_cached_answer_model_hash'), 'cached_answer', ['model_hash'], unique=False)
    op.create_index(op.f('ix_cached_answer_run_id'), 'cached_answer', ['run_id'], unique=False)
    op.create_table('drift_watch',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('model_version_id', sa.Uuid(), nullable=False),
    sa.Column('reference_rate', sa.Float(), nullable=False),
    sa.Column('n_reference', sa.Integer(), nullable=False),
    sa.Column('n', sa.Integer(), nullable=False),
    sa.Column('n_failed', sa.Integer(), nullable=False),
    sa.Column('log_e', sa.Float(), nullable=False),
    sa.Column('max_log_e', sa.Float(), nullable=False),
    sa.Column('watermark', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('alarm_decision_id', sa.Uuid(), nullable=True),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['alarm_decision_id'], ['decision.id'], name=op.f('fk_drift_watch_alarm_decision_id_decision')),
    sa.ForeignKeyConstraint(['model_version_id'], ['model_version.id'], name=op.f('fk_drift_watch_model_version_id_model_version')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_drift_watch')),
    sa.UniqueConstraint('role', 'model_version_id', name=op.f('uq_drift_watch_role_model_version_id'))
    )
    op.add_column('evaluation', sa.Column('suite_hash', sa.String(), nullable=False, server_default=''))
    op.add_column('evaluation', sa.Column('metrics', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False, server_default=sa.text("'{}'")))
    op.add_column('sample', sa.Column('metrics', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False, server_default=sa.text("'{}'")))
    op.add_column('sample', sa.Column('output_tokens', sa.Float(), nullable=True))
    op.add_column('sample', sa.Column('latency_ms', sa.Float(), nullable=True))
    op.add_column('sample', sa.Column('ttft_ms', sa.Float(), nullable=True))
    op.add_column('suite', sa.Column('description', sa.String(), nullable=False, server_default=''))
    op.add_column('suite', sa.Column('frozen_at', sa.DateTime(timezone=True), nullable=True))
    op.add_column('verdict', sa.Column('report', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False, server_default=sa.text("'{}'")))
    op.execute("UPDATE evaluation SET suite_hash = coalesce(settings ->> 'suite_hash', '')")
    op.execute("UPDATE suite SET frozen_at = created_at")
    for table, column in _FILLED:
        op.alter_column(table, column, server_default=None)


_FILLED = (
    ('evaluation', 'suite_hash'), ('evaluation', 'metrics'), ('sample', 'metrics'),
    ('suite', 'description'), ('verdict', 'report'),
)


def downgrade() -> None:
    op.drop_column('verdict', 'report')
    op.drop_column('suite', 'frozen_at')
    op.drop_column('suite', 'description')
    op.drop_column('sample', 'ttft_ms')
    op.drop_column('sample', 'latency_ms')
    op.drop_column('sample', 'output_tokens')
    op.drop_column('sample', 'metrics')
    op.drop_column('evaluation', 'metrics')
    op.drop_column('evaluation', 'suite_hash')
    op.drop_table('drift_watch')
    op.drop_index(op.f('ix_cached_answer_run_id'), table_name='cached_answer')
    op.drop_index(op.f('ix_cached_answer_model_hash'), table_name='cached_answer')
    op.drop_table('cached_answer')
    op.drop_table('judgement')
