"""Admin view: users, sessions, the audit log; what runs measure and say, looks at experiments.

Revision: 0006, after 0005.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
revision = '0006'
down_revision = '0005'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_index('ix_run_status', 'run', ['status', 'id'], unique=False)
    op.create_table('admin_sign_in_attempt',
    sa.Column('subject', sa.String(), nullable=False),
    sa.Column('starts_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('n_failed', sa.Integer(), nullable=False),
    sa.PrimaryKeyConstraint('subject', 'starts_at', name=op.f('pk_admin_sign_in_attempt'))
    )
    op.create_index(op.f('ix_admin_sign_in_attempt_starts_at'), 'admin_sign_in_attempt', ['starts_at'], unique=False)
    op.create_table('admin_user',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('password_hash', sa.String(), nullable=True),
    sa.Column('oidc_subject', sa.String(), nullable=True),
    sa.Column('actor', sa.String(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('disabled_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('seen_at', sa.DateTime(timezone=True), nullable=True),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_admin_user')),
    sa.UniqueConstraint('name', name=op.f('uq_admin_user_name')),
    sa.UniqueConstraint('oidc_subject', name=op.f('uq_admin_user_oidc_subject'))
    )
    op.create_table('audit_entry',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('actor', sa.String(), nullable=False),
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('action', sa.String(), nullable=False),
    sa.Column('subject_kind', sa.String(), nullable=False),
    sa.Column('subject_id', sa.String(), nullable=False),
    sa.Column('before', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    sa.Column('after', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    sa.Column('reason', sa.String(), nullable=True),
    sa.Column('via', sa.String(), nullable=False),
    sa.Column('address', sa.String(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_audit_entry'))
    )
    op.create_index(op.f('ix_audit_entry_actor'), 'audit_entry', ['actor'], unique=False)
    op.create_index('ix_audit_entry_subject', 'audit_entry', ['subject_kind', 'subject_id'], unique=False)
    op.create_table('admin_session',
    sa.Column('token_hash', sa.String(), nullable=False),
    sa.Column('user_id', sa.Uuid(), nullable=False),
    sa.Column('via', sa.String(), nullable=False),
    sa.Column('address', sa.String(), nullable=False),
    sa.Column('agent', sa.String(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('seen_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['user_id'], ['admin_user.id'], name=op.f('fk_admin_session_user_id_admin_user'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('token_hash', name=op.f('pk_admin_session'))
    )
    op.create_index(op.f('ix_admin_session_user_id'), 'admin_session', ['user_id'], unique=False)
    op.create_table('admin_sign_in_code',
    sa.Column('code_hash', sa.String(), nullable=False),
    sa.Column('user_id', sa.Uuid(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('expires_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('used_at', sa.DateTime(timezone=True), nullable=True),
    sa.ForeignKeyConstraint(['user_id'], ['admin_user.id'], name=op.f('fk_admin_sign_in_code_user_id_admin_user'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('code_hash', name=op.f('pk_admin_sign_in_code'))
    )
    op.create_table('run_log',
    sa.Column('run_id', sa.Uuid(), nullable=False),
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('level', sa.String(), nullable=False),
    sa.Column('message', sa.String(), nullable=False),
    sa.Column('logged_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['run_id'], ['run.id'], name=op.f('fk_run_log_run_id_run'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('run_id', 'id', name=op.f('pk_run_log'))
    )
    op.create_table('run_measure',
    sa.Column('run_id', sa.Uuid(), nullable=False),
    sa.Column('done', sa.Float(), nullable=False),
    sa.Column('measures', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('attempt', sa.Integer(), nullable=False),
    sa.Column('measured_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['run_id'], ['run.id'], name=op.f('fk_run_measure_run_id_run'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('run_id', 'done', name=op.f('pk_run_measure'))
    )
    op.create_table('experiment_look',
    sa.Column('experiment_id', sa.Uuid(), nullable=False),
    sa.Column('looked_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('phase', sa.Integer(), nullable=False),
    sa.Column('n_treatment', sa.Integer(), nullable=False),
    sa.Column('n_control', sa.Integer(), nullable=False),
    sa.Column('e_value', sa.Float(), nullable=True),
    sa.Column('needed_e', sa.Float(), nullable=True),
    sa.Column('estimate', sa.Float(), nullable=True),
    sa.Column('low', sa.Float(), nullable=True),
    sa.Column('high', sa.Float(), nullable=True),
    sa.Column('split_e', sa.Float(), nullable=True),
    sa.ForeignKeyConstraint(['experiment_id'], ['experiment.id'], name=op.f('fk_experiment_look_experiment_id_experiment')),
    sa.PrimaryKeyConstraint('experiment_id', 'looked_at', name=op.f('pk_experiment_look'))
    )
    op.drop_index('ix_sample_evaluation_id', table_name='sample')
    op.create_index('ix_sample_evaluation_id', 'sample', ['evaluation_id', 'id'], unique=False)
    op.create_index('ix_sample_outcome', 'sample', ['evaluation_id', 'suite_task_id', 'number', 'passed', 'status'], unique=False)
    op.create_index(op.f('ix_decision_subject_id'), 'decision', ['subject_id'], unique=False)
    op.create_index('ix_review_label_created_at', 'review_label', ['created_at'], unique=False)
    op.create_index('ix_example_dropped', 'example', ['role', 'variant', 'drop_reason', 'id'], unique=False, postgresql_where=sa.text("status = 'dropped'"))
    op.create_index('ix_budget_window_starts_at', 'budget_window', ['starts_at'], unique=False)


def downgrade() -> None:
    op.drop_index('ix_run_status', table_name='run')
    op.drop_index('ix_budget_window_starts_at', table_name='budget_window')
    op.drop_index('ix_review_label_created_at', table_name='review_label')
    op.drop_index('ix_example_dropped', table_name='example', postgresql_where=sa.text("status = 'dropped'"))
    op.drop_index(op.f('ix_decision_subject_id'), table_name='decision')
    op.drop_index('ix_sample_outcome', table_name='sample')
    op.drop_index('ix_sample_evaluation_id', table_name='sample')
    op.create_index('ix_sample_evaluation_id', 'sample', ['evaluation_id'], unique=False)
    op.drop_table('experiment_look')
    op.drop_table('run_measure')
    op.drop_table('run_log')
    op.drop_table('admin_sign_in_code')
    op.drop_index(op.f('ix_admin_session_user_id'), table_name='admin_session')
    op.drop_table('admin_session')
    op.drop_index('ix_audit_entry_subject', table_name='audit_entry')
    op.drop_index(op.f('ix_audit_entry_actor'), table_name='audit_entry')
    op.drop_table('audit_entry')
    op.drop_table('admin_user')
    op.drop_index(op.f('ix_admin_sign_in_attempt_starts_at'), table_name='admin_sign_in_attempt')
    op.drop_table('admin_sign_in_attempt')
