"""initial schema.

Revision: 0001, after None.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0001'
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('curation_watermark',
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('variant', sa.String(), nullable=False),
    sa.Column('seen_until', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('role', 'variant', name=op.f('pk_curation_watermark'))
    )
    op.create_table('decision',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('role', sa.String(), nullable=True),
    sa.Column('inputs', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('rule', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('outcome', sa.String(), nullable=False),
    sa.Column('reasons', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('actor', sa.String(), nullable=False),
    sa.Column('subject_id', sa.Uuid(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_decision'))
    )
    op.create_index(op.f('ix_decision_kind'), 'decision', ['kind'], unique=False)
    op.create_index(op.f('ix_decision_role'), 'decision', ['role'], unique=False)
    op.create_table('example',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('interaction_id', sa.Uuid(), nullable=False),
    sa.Column('variant', sa.String(), nullable=False),
    sa.Column('episode_id', sa.Uuid(), nullable=True),
    sa.Column('task_type', sa.String(), nullable=True),
    sa.Column('prompt', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('answer', sa.String(), nullable=False),
    sa.Column('corrected', sa.Boolean(), nullable=False),
    sa.Column('status', sa.String(), nullable=False),
    sa.Column('drop_reason', sa.String(), nullable=True),
    sa.Column('duplicate_of', sa.Uuid(), nullable=True),
    sa.Column('similarity', sa.Float(), nullable=True),
    sa.Column('score', sa.Float(), nullable=True),
    sa.Column('scores', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('norm_hash', sa.String(), nullable=False),
    sa.Column('cluster_id', sa.Uuid(), nullable=True),
    sa.Column('split', sa.String(), nullable=False),
    sa.Column('split_key', sa.String(), nullable=False),
    sa.Column('n_tokens', sa.Integer(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_example')),
    sa.UniqueConstraint('interaction_id', 'variant', name=op.f('uq_example_interaction_id_variant'))
    )
    op.create_index('ix_example_cluster_id', 'example', ['cluster_id'], unique=False)
    op.create_index('ix_example_episode_id', 'example', ['episode_id'], unique=False)
    op.create_index('ix_example_split_key', 'example', ['role', 'variant', 'split_key'], unique=False)
    op.create_index('ix_example_norm_hash', 'example', ['role', 'variant', 'norm_hash'], unique=False)
    op.create_index('ix_example_role_status', 'example', ['role', 'status'], unique=False)
    op.create_table('feedback',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('interaction_id', sa.Uuid(), nullable=True),
    sa.Column('episode_id', sa.Uuid(), nullable=True),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('name', sa.String(), nullable=True),
    sa.Column('value', sa.Float(), nullable=True),
    sa.Column('text', sa.String(), nullable=True),
    sa.Column('loser_interaction_id', sa.Uuid(), nullable=True),
    sa.Column('source', sa.String(), nullable=False),
    sa.Column('actor', sa.String(), nullable=True),
    sa.Column('details', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    sa.Column('scrub', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('ingested_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_feedback'))
    )
    op.create_index('ix_feedback_episode_id', 'feedback', ['episode_id'], unique=False)
    op.create_index('ix_feedback_ingested_at', 'feedback', ['ingested_at'], unique=False)
    op.create_index('ix_feedback_interaction_id', 'feedback', ['interaction_id'], unique=False)
    op.create_table('ingest_count',
    sa.Column('source', sa.String(), nullable=False),
    sa.Column('outcome', sa.String(), nullable=False),
    sa.Column('n', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('source', 'outcome', name=op.f('pk_ingest_count'))
    )
    op.create_table('interaction',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('task_type', sa.String(), nullable=True),
    sa.Column('project', sa.String(), nullable=False),
    sa.Column('episode_id', sa.Uuid(), nullable=True),
    sa.Column('parent_id', sa.Uuid(), nullable=True),
    sa.Column('unit_id', sa.String(), nullable=True),
    sa.Column('experiment_id', sa.Uuid(), nullable=True),
    sa.Column('arm', sa.String(), nullable=True),
    sa.Column('model_version_id', sa.Uuid(), nullable=True),
    sa.Column('gen_ai_operation_name', sa.String(), nullable=False),
    sa.Column('gen_ai_provider_name', sa.String(), nullable=True),
    sa.Column('gen_ai_request_model', sa.String(), nullable=True),
    sa.Column('gen_ai_response_model', sa.String(), nullable=True),
    sa.Column('gen_ai_response_id', sa.String(), nullable=True),
    sa.Column('gen_ai_response_finish_reasons', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    sa.Column('gen_ai_request_temperature', sa.Float(), nullable=True),
    sa.Column('gen_ai_request_max_tokens', sa.Integer(), nullable=True),
    sa.Column('gen_ai_usage_input_tokens', sa.Integer(), nullable=True),
    sa.Column('gen_ai_usage_output_tokens', sa.Integer(), nullable=True),
    sa.Column('status', sa.String(), nullable=False),
    sa.Column('error_type', sa.String(), nullable=True),
    sa.Column('completed', sa.Boolean(), nullable=False),
    sa.Column('latency_ms', sa.Float(), nullable=True),
    sa.Column('ttft_ms', sa.Float(), nullable=True),
    sa.Column('cost_usd', sa.Float(), nullable=True),
    sa.Column('usage_estimated', sa.Boolean(), nullable=False),
    sa.Column('scrub', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    sa.Column('source', sa.String(), nullable=False),
    sa.Column('client_version', sa.String(), nullable=True),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('ingested_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_interaction')),
    postgresql_partition_by='RANGE (id)'
    )
    op.execute('CREATE TABLE interaction_default PARTITION OF interaction DEFAULT')
    op.create_index('ix_interaction_episode_id', 'interaction', ['episode_id'], unique=False)
    op.create_index('ix_interaction_role_ingested_at', 'interaction', ['role', 'ingested_at'], unique=False)
    op.create_table('interaction_payload',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('request', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('response', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    sa.Column('attributes', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_interaction_payload')),
    postgresql_partition_by='RANGE (id)'
    )
    op.execute('CREATE TABLE interaction_payload_default PARTITION OF interaction_payload DEFAULT')
    op.create_table('run',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('role', sa.String(), nullable=True),
    sa.Column('status', sa.String(), nullable=False),
    sa.Column('params', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('result', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    sa.Column('progress', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    sa.Column('error', sa.String(), nullable=True),
    sa.Column('attempts', sa.Integer(), nullable=False),
    sa.Column('worker', sa.String(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('heartbeat_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('finished_at', sa.DateTime(timezone=True), nullable=True),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_run'))
    )
    op.create_index(op.f('ix_run_kind'), 'run', ['kind'], unique=False)
    op.create_index('ix_run_unfinished', 'run', ['status', 'heartbeat_at'], unique=False, postgresql_where=sa.text("status IN ('queued', 'running')"))
    op.create_table('suite',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('version', sa.Integer(), nullable=False),
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('content_hash', sa.String(), nullable=False),
    sa.Column('n_tasks', sa.Integer(), nullable=False),
    sa.Column('origin', sa.String(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_suite')),
    sa.UniqueConstraint('name', 'version', name=op.f('uq_suite_name_version'))
    )
    op.create_table('dataset',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('variant', sa.String(), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('content_hash', sa.String(), nullable=False),
    sa.Column('artifact_uri', sa.String(), nullable=True),
    sa.Column('card', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('n_train', sa.Integer(), nullable=False),
    sa.Column('n_validation', sa.Integer(), nullable=False),
    sa.Column('n_test', sa.Integer(), nullable=False),
    sa.Column('run_id', sa.Uuid(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['run_id'], ['run.id'], name=op.f('fk_dataset_run_id_run')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_dataset')),
    sa.UniqueConstraint('role', 'kind', 'variant', 'number', name=op.f('uq_dataset_role_kind_variant_number'))
    )
    op.create_index(op.f('ix_dataset_role'), 'dataset', ['role'], unique=False)
    op.create_table('example_band',
    sa.Column('example_id', sa.Uuid(), nullable=False),
    sa.Column('band', sa.Integer(), nullable=False),
    sa.Column('key', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['example_id'], ['example.id'], name=op.f('fk_example_band_example_id_example')),
    sa.PrimaryKeyConstraint('example_id', 'band', name=op.f('pk_example_band'))
    )
    op.create_index('ix_example_band_key', 'example_band', ['key'], unique=False, postgresql_using='hash')
    op.create_table('suite_task',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('suite_id', sa.Uuid(), nullable=False),
    sa.Column('task_id', sa.String(), nullable=False),
    sa.Column('prompt', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('grader', sa.String(), nullable=False),
    sa.Column('reference', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('attributes', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.ForeignKeyConstraint(['suite_id'], ['suite.id'], name=op.f('fk_suite_task_suite_id_suite')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_suite_task')),
    sa.UniqueConstraint('suite_id', 'task_id', name=op.f('uq_suite_task_suite_id_task_id'))
    )
    op.create_index(op.f('ix_suite_task_suite_id'), 'suite_task', ['suite_id'], unique=False)
    op.create_table('dataset_example',
    sa.Column('dataset_id', sa.Uuid(), nullable=False),
    sa.Column('example_id', sa.Uuid(), nullable=False),
    sa.Column('split', sa.String(), nullable=False),
    sa.ForeignKeyConstraint(['dataset_id'], ['dataset.id'], name=op.f('fk_dataset_example_dataset_id_dataset')),
    sa.ForeignKeyConstraint(['example_id'], ['example.id'], name=op.f('fk_dataset_example_example_id_example')),
    sa.PrimaryKeyConstraint('dataset_id', 'example_id', name=op.f('pk_dataset_example'))
    )
    op.create_index(op.f('ix_dataset_example_example_id'), 'dataset_example', ['example_id'], unique=False)
    op.create_table('training_run',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('run_id', sa.Uuid(), nullable=False),
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('dataset_id', sa.Uuid(), nullable=False),
    sa.Column('base_model', sa.String(), nullable=False),
    sa.Column('method', sa.String(), nullable=False),
    sa.Column('recipe', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('seed', sa.Integer(), nullable=False),
    sa.Column('metrics', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('history', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('manifest', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['dataset_id'], ['dataset.id'], name=op.f('fk_training_run_dataset_id_dataset')),
    sa.ForeignKeyConstraint(['run_id'], ['run.id'], name=op.f('fk_training_run_run_id_run')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_training_run')),
    sa.UniqueConstraint('run_id', name=op.f('uq_training_run_run_id'))
    )
    op.create_index(op.f('ix_training_run_role'), 'training_run', ['role'], unique=False)
    op.create_table('model_version',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('base_model', sa.String(), nullable=False),
    sa.Column('artifact_uri', sa.String(), nullable=True),
    sa.Column('content_hash', sa.String(), nullable=True),
    sa.Column('stage', sa.String(), nullable=False),
    sa.Column('is_control', sa.Boolean(), nullable=False),
    sa.Column('training_run_id', sa.Uuid(), nullable=True),
    sa.Column('dataset_id', sa.Uuid(), nullable=True),
    sa.Column('parent_id', sa.Uuid(), nullable=True),
    sa.Column('metrics', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['dataset_id'], ['dataset.id'], name=op.f('fk_model_version_dataset_id_dataset')),
    sa.ForeignKeyConstraint(['parent_id'], ['model_version.id'], name=op.f('fk_model_version_parent_id_model_version')),
    sa.ForeignKeyConstraint(['training_run_id'], ['training_run.id'], name=op.f('fk_model_version_training_run_id_training_run')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_model_version')),
    sa.UniqueConstraint('name', name=op.f('uq_model_version_name')),
    sa.UniqueConstraint('role', 'number', name=op.f('uq_model_version_role_number'))
    )
    op.create_index(op.f('ix_model_version_role'), 'model_version', ['role'], unique=False)
    op.create_table('evaluation',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('run_id', sa.Uuid(), nullable=True),
    sa.Column('suite_id', sa.Uuid(), nullable=False),
    sa.Column('model_version_id', sa.Uuid(), nullable=True),
    sa.Column('subject', sa.String(), nullable=False),
    sa.Column('samples_per_task', sa.Integer(), nullable=False),
    sa.Column('n_samples', sa.Integer(), nullable=False),
    sa.Column('n_lost', sa.Integer(), nullable=False),
    sa.Column('success_rate', sa.Float(), nullable=True),
    sa.Column('ci_low', sa.Float(), nullable=True),
    sa.Column('ci_high', sa.Float(), nullable=True),
    sa.Column('tokens_per_s', sa.Float(), nullable=True),
    sa.Column('settings', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('sandbox', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['model_version_id'], ['model_version.id'], name=op.f('fk_evaluation_model_version_id_model_version')),
    sa.ForeignKeyConstraint(['run_id'], ['run.id'], name=op.f('fk_evaluation_run_id_run')),
    sa.ForeignKeyConstraint(['suite_id'], ['suite.id'], name=op.f('fk_evaluation_suite_id_suite')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_evaluation'))
    )
    op.create_index(op.f('ix_evaluation_model_version_id'), 'evaluation', ['model_version_id'], unique=False)
    op.create_index(op.f('ix_evaluation_suite_id'), 'evaluation', ['suite_id'], unique=False)
    op.create_table('experiment',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('control_model_version_id', sa.Uuid(), nullable=False),
    sa.Column('treatment_model_version_id', sa.Uuid(), nullable=False),
    sa.Column('treatment_share', sa.Float(), nullable=False),
    sa.Column('salt', sa.String(), nullable=False),
    sa.Column('plan', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('status', sa.String(), nullable=False),
    sa.Column('state', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('decision_id', sa.Uuid(), nullable=True),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('ended_at', sa.DateTime(timezone=True), nullable=True),
    sa.ForeignKeyConstraint(['control_model_version_id'], ['model_version.id'], name=op.f('fk_experiment_control_model_version_id_model_version')),
    sa.ForeignKeyConstraint(['decision_id'], ['decision.id'], name=op.f('fk_experiment_decision_id_decision')),
    sa.ForeignKeyConstraint(['treatment_model_version_id'], ['model_version.id'], name=op.f('fk_experiment_treatment_model_version_id_model_version')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_experiment'))
    )
    op.create_index(op.f('ix_experiment_role'), 'experiment', ['role'], unique=False)
    op.create_index('uq_experiment_running_role', 'experiment', ['role'], unique=True, postgresql_where=sa.text("status = 'running'"))
    op.create_table('assignment',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('experiment_id', sa.Uuid(), nullable=False),
    sa.Column('sequence', sa.BigInteger(), sa.Identity(always=False), nullable=False),
    sa.Column('unit', sa.String(), nullable=False),
    sa.Column('arm', sa.String(), nullable=False),
    sa.Column('stratum', sa.String(), nullable=False),
    sa.Column('assigned_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('n_calls', sa.Integer(), nullable=False),
    sa.Column('n_errors', sa.Integer(), nullable=False),
    sa.Column('n_slow', sa.Integer(), nullable=False),
    sa.Column('outcome', sa.Boolean(), nullable=True),
    sa.Column('outcome_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('timed_out', sa.Boolean(), nullable=False),
    sa.ForeignKeyConstraint(['experiment_id'], ['experiment.id'], name=op.f('fk_assignment_experiment_id_experiment')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_assignment')),
    sa.UniqueConstraint('experiment_id', 'unit', name=op.f('uq_assignment_experiment_id_unit'))
    )
    op.create_index('ix_assignment_open', 'assignment', ['experiment_id'], unique=False, postgresql_where=sa.text('outcome IS NULL'))
    op.create_table('promotion',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('from_model_version_id', sa.Uuid(), nullable=True),
    sa.Column('to_model_version_id', sa.Uuid(), nullable=False),
    sa.Column('experiment_id', sa.Uuid(), nullable=True),
    sa.Column('decision_id', sa.Uuid(), nullable=True),
    sa.Column('reason', sa.String(), nullable=False),
    sa.Column('actor', sa.String(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['decision_id'], ['decision.id'], name=op.f('fk_promotion_decision_id_decision')),
    sa.ForeignKeyConstraint(['experiment_id'], ['experiment.id'], name=op.f('fk_promotion_experiment_id_experiment')),
    sa.ForeignKeyConstraint(['from_model_version_id'], ['model_version.id'], name=op.f('fk_promotion_from_model_version_id_model_version')),
    sa.ForeignKeyConstraint(['to_model_version_id'], ['model_version.id'], name=op.f('fk_promotion_to_model_version_id_model_version')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_promotion'))
    )
    op.create_index(op.f('ix_promotion_role'), 'promotion', ['role'], unique=False)
    op.create_table('sample',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('evaluation_id', sa.Uuid(), nullable=False),
    sa.Column('suite_task_id', sa.Uuid(), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('answer', sa.String(), nullable=False),
    sa.Column('passed', sa.Boolean(), nullable=True),
    sa.Column('status', sa.String(), nullable=False),
    sa.Column('score', sa.Float(), nullable=True),
    sa.Column('detail', sa.String(), nullable=True),
    sa.ForeignKeyConstraint(['evaluation_id'], ['evaluation.id'], name=op.f('fk_sample_evaluation_id_evaluation')),
    sa.ForeignKeyConstraint(['suite_task_id'], ['suite_task.id'], name=op.f('fk_sample_suite_task_id_suite_task')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_sample'))
    )
    op.create_index('ix_sample_evaluation_id', 'sample', ['evaluation_id'], unique=False)
    op.create_table('verdict',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('suite_id', sa.Uuid(), nullable=False),
    sa.Column('baseline_evaluation_id', sa.Uuid(), nullable=False),
    sa.Column('candidate_evaluation_id', sa.Uuid(), nullable=False),
    sa.Column('n_tasks', sa.Integer(), nullable=False),
    sa.Column('improvement_points', sa.Float(), nullable=False),
    sa.Column('ci_low', sa.Float(), nullable=False),
    sa.Column('ci_high', sa.Float(), nullable=False),
    sa.Column('p_value', sa.Float(), nullable=False),
    sa.Column('speed_ratio', sa.Float(), nullable=True),
    sa.Column('outcome', sa.String(), nullable=False),
    sa.Column('decision_id', sa.Uuid(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['baseline_evaluation_id'], ['evaluation.id'], name=op.f('fk_verdict_baseline_evaluation_id_evaluation')),
    sa.ForeignKeyConstraint(['candidate_evaluation_id'], ['evaluation.id'], name=op.f('fk_verdict_candidate_evaluation_id_evaluation')),
    sa.ForeignKeyConstraint(['decision_id'], ['decision.id'], name=op.f('fk_verdict_decision_id_decision')),
    sa.ForeignKeyConstraint(['suite_id'], ['suite.id'], name=op.f('fk_verdict_suite_id_suite')),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_verdict'))
    )
    op.create_index(op.f('ix_verdict_role'), 'verdict', ['role'], unique=False)
    op.create_table('role_serving',
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('model_version_id', sa.Uuid(), nullable=False),
    sa.Column('promotion_id', sa.Uuid(), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['model_version_id'], ['model_version.id'], name=op.f('fk_role_serving_model_version_id_model_version')),
    sa.ForeignKeyConstraint(['promotion_id'], ['promotion.id'], name=op.f('fk_role_serving_promotion_id_promotion')),
    sa.PrimaryKeyConstraint('role', name=op.f('pk_role_serving'))
    )


def downgrade() -> None:
    op.drop_table('role_serving')
    op.drop_index(op.f('ix_verdict_role'), table_name='verdict')
    op.drop_table('verdict')
    op.drop_index('ix_sample_evaluation_id', table_name='sample')
    op.drop_table('sample')
    op.drop_index(op.f('ix_promotion_role'), table_name='promotion')
    op.drop_table('promotion')
    op.drop_index('ix_assignment_open', table_name='assignment', postgresql_where=sa.text('outcome IS NULL'))
    op.drop_table('assignment')
    op.drop_index('uq_experiment_running_role', table_name='experiment', postgresql_where=sa.text("status = 'running'"))
    op.drop_index(op.f('ix_experiment_role'), table_name='experiment')
    op.drop_table('experiment')
    op.drop_index(op.f('ix_evaluation_suite_id'), table_name='evaluation')
    op.drop_index(op.f('ix_evaluation_model_version_id'), table_name='evaluation')
    op.drop_table('evaluation')
    op.drop_index(op.f('ix_model_version_role'), table_name='model_version')
    op.drop_table('model_version')
    op.drop_index(op.f('ix_training_run_role'), table_name='training_run')
    op.drop_table('training_run')
    op.drop_index(op.f('ix_dataset_example_example_id'), table_name='dataset_example')
    op.drop_table('dataset_example')
    op.drop_index(op.f('ix_suite_task_suite_id'), table_name='suite_task')
    op.drop_table('suite_task')
    op.drop_index('ix_example_band_key', table_name='example_band', postgresql_using='hash')
    op.drop_table('example_band')
    op.drop_index(op.f('ix_dataset_role'), table_name='dataset')
    op.drop_table('dataset')
    op.drop_table('suite')
    op.drop_index('ix_run_unfinished', table_name='run', postgresql_where=sa.text("status IN ('queued', 'running')"))
    op.drop_index(op.f('ix_run_kind'), table_name='run')
    op.drop_table('run')
    op.drop_table('interaction_payload')
    op.drop_index('ix_interaction_role_ingested_at', table_name='interaction')
    op.drop_index('ix_interaction_episode_id', table_name='interaction')
    op.drop_table('interaction')
    op.drop_table('ingest_count')
    op.drop_index('ix_feedback_interaction_id', table_name='feedback')
    op.drop_index('ix_feedback_ingested_at', table_name='feedback')
    op.drop_index('ix_feedback_episode_id', table_name='feedback')
    op.drop_table('feedback')
    op.drop_index('ix_example_role_status', table_name='example')
    op.drop_index('ix_example_split_key', table_name='example')
    op.drop_index('ix_example_episode_id', table_name='example')
    op.drop_index('ix_example_norm_hash', table_name='example')
    op.drop_index('ix_example_cluster_id', table_name='example')
    op.drop_table('example')
    op.drop_index(op.f('ix_decision_role'), table_name='decision')
    op.drop_index(op.f('ix_decision_kind'), table_name='decision')
    op.drop_table('decision')
    op.drop_table('curation_watermark')
