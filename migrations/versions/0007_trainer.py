"""Trainer: every method's trainings, exports, schedules; lineage of versions no training made.

Revision: 0007, after 0006.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
revision = '0007'
down_revision = '0006'
branch_labels = None
depends_on = None


def _json() -> postgresql.JSONB:
    return postgresql.JSONB(none_as_null=True, astext_type=sa.Text())


def upgrade() -> None:
    op.create_table('constitution_revision',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('variant', sa.String(), nullable=False),
    sa.Column('constitution', sa.String(), nullable=False),
    sa.Column('task_key', sa.String(), nullable=False),
    sa.Column('project', sa.String(), nullable=False),
    sa.Column('interaction_id', sa.Uuid(), nullable=False),
    sa.Column('run_id', sa.Uuid(), nullable=True),
    sa.Column('model', sa.String(), nullable=False),
    sa.Column('principle', sa.String(), nullable=False),
    sa.Column('outcome', sa.String(), nullable=False),
    sa.Column('original', sa.String(), nullable=False),
    sa.Column('critique', sa.String(), nullable=False),
    sa.Column('revision', sa.String(), nullable=True),
    sa.Column('n_calls', sa.Integer(), nullable=False),
    sa.Column('cost_usd', sa.Float(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['run_id'], ['run.id'], name=op.f('fk_constitution_revision_run_id_run')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_constitution_revision')),
    sa.UniqueConstraint('role', 'variant', 'constitution', 'task_key', 'project', name=op.f('uq_constitution_revision_role_variant_constitution_task_key_project'))
    )
    op.create_index('ix_constitution_revision_interaction_id', 'constitution_revision', ['interaction_id'], unique=False)
    op.create_index('ix_constitution_revision_run_id', 'constitution_revision', ['run_id'], unique=False)
    op.create_table('training_schedule',
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('is_on', sa.Boolean(), nullable=False),
    sa.Column('every', sa.String(), nullable=True),
    sa.Column('triggers', _json(), nullable=False),
    sa.Column('training', _json(), nullable=False),
    sa.Column('due_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('fired_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('fired_because', sa.String(), nullable=True),
    sa.Column('run_id', sa.Uuid(), nullable=True),
    sa.Column('seen', _json(), nullable=False),
    sa.Column('changed_by', sa.String(), nullable=False),
    sa.Column('changed_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['run_id'], ['run.id'], name=op.f('fk_training_schedule_run_id_run')),
    sa.PrimaryKeyConstraint('role', name=op.f('pk_training_schedule'))
    )
    op.create_index('ix_training_schedule_due', 'training_schedule', ['is_on', 'due_at'], unique=False)
    op.create_table('model_export',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('run_id', sa.Uuid(), nullable=True),
    sa.Column('model_version_id', sa.Uuid(), nullable=False),
    sa.Column('format', sa.String(), nullable=False),
    sa.Column('artifact_uri', sa.String(), nullable=False),
    sa.Column('content_hash', sa.String(), nullable=False),
    sa.Column('size_bytes', sa.BigInteger(), nullable=False),
    sa.Column('parity', _json(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['model_version_id'], ['model_version.id'], name=op.f('fk_model_export_model_version_id_model_version')),
    sa.ForeignKeyConstraint(['run_id'], ['run.id'], name=op.f('fk_model_export_run_id_run')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_model_export')),
    sa.UniqueConstraint('model_version_id', 'format', name=op.f('uq_model_export_model_version_id_format'))
    )
    op.create_index(op.f('ix_model_export_run_id'), 'model_export', ['run_id'], unique=False)
    op.add_column('model_version', sa.Column('made_by', _json(), nullable=False, server_default='{}'))
    op.add_column('model_version', sa.Column('pinned_because', sa.String(), nullable=True))
    op.add_column('model_version', sa.Column('files_removed_at', sa.DateTime(timezone=True), nullable=True))
    op.add_column('training_run', sa.Column('suite', sa.String(), nullable=True))
    op.add_column('training_run', sa.Column('from_version_id', sa.Uuid(), nullable=True))
    op.add_column('training_run', sa.Column('ordered_by', sa.String(), nullable=False, server_default='person'))
    op.add_column('training_run', sa.Column('search_run_id', sa.Uuid(), nullable=True))
    op.add_column('training_run', sa.Column('estimate', _json(), nullable=False, server_default='{}'))
    # Only the rows of before needed them: who writes a row says what it is.
    op.alter_column('model_version', 'made_by', server_default=None)
    op.alter_column('training_run', 'ordered_by', server_default=None)
    op.alter_column('training_run', 'estimate', server_default=None)
    op.alter_column('training_run', 'dataset_id', existing_type=sa.Uuid(), nullable=True)
    op.drop_constraint(op.f('uq_training_run_run_id'), 'training_run', type_='unique')
    op.create_index(op.f('ix_training_run_dataset_id'), 'training_run', ['dataset_id'], unique=False)
    op.create_index(op.f('ix_training_run_from_version_id'), 'training_run', ['from_version_id'], unique=False)
    op.create_index(op.f('ix_training_run_run_id'), 'training_run', ['run_id'], unique=False)
    op.create_index(op.f('ix_training_run_search_run_id'), 'training_run', ['search_run_id'], unique=False)
    op.create_foreign_key(op.f('fk_training_run_search_run_id_run'), 'training_run', 'run', ['search_run_id'], ['id'])


def downgrade() -> None:
    op.drop_table('constitution_revision')
    op.drop_constraint(op.f('fk_training_run_search_run_id_run'), 'training_run', type_='foreignkey')
    op.drop_index(op.f('ix_training_run_search_run_id'), table_name='training_run')
    op.drop_index(op.f('ix_training_run_run_id'), table_name='training_run')
    op.drop_index(op.f('ix_training_run_from_version_id'), table_name='training_run')
    op.drop_index(op.f('ix_training_run_dataset_id'), table_name='training_run')
    op.create_unique_constraint(op.f('uq_training_run_run_id'), 'training_run', ['run_id'])
    op.alter_column('training_run', 'dataset_id', existing_type=sa.Uuid(), nullable=False)
    op.drop_column('training_run', 'estimate')
    op.drop_column('training_run', 'search_run_id')
    op.drop_column('training_run', 'ordered_by')
    op.drop_column('training_run', 'from_version_id')
    op.drop_column('training_run', 'suite')
    op.drop_column('model_version', 'files_removed_at')
    op.drop_column('model_version', 'pinned_because')
    op.drop_column('model_version', 'made_by')
    op.drop_table('model_export')
    op.drop_table('training_schedule')
