"""Curation in chunks: an index of distinct texts, evidence, shards, pairs, reviews.

Revision: 0003, after 0002.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
revision = '0003'
down_revision = '0002'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('calibration',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('variant', sa.String(), nullable=False),
    sa.Column('method', sa.String(), nullable=False),
    sa.Column('params', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('n', sa.Integer(), nullable=False),
    sa.Column('brier_before', sa.Float(), nullable=True),
    sa.Column('brier_after', sa.Float(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_calibration'))
    )
    op.create_index('ix_calibration_role', 'calibration', ['role', 'variant', 'created_at'], unique=False)
    op.create_table('curation_build',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('variant', sa.String(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('recipe', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('recipe_fingerprint', sa.String(), nullable=False),
    sa.Column('everything', sa.Boolean(), nullable=False),
    sa.Column('from_xid', sa.BigInteger(), nullable=True),
    sa.Column('until_xid', sa.BigInteger(), nullable=False),
    sa.Column('step', sa.String(), nullable=False),
    sa.Column('counts', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('outcome', sa.String(), nullable=True),
    sa.Column('started_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('finished_at', sa.DateTime(timezone=True), nullable=True),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_curation_build'))
    )
    op.create_index('uq_curation_build_open', 'curation_build', ['role', 'variant'], unique=True, postgresql_where=sa.text('finished_at IS NULL'))
    op.create_table('embedding',
    sa.Column('text_hash', sa.String(), nullable=False),
    sa.Column('model', sa.String(), nullable=False),
    sa.Column('vector', sa.LargeBinary(), nullable=False),
    sa.Column('n_chunks', sa.Integer(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('text_hash', 'model', name=op.f('pk_embedding'))
    )
    op.create_table('erasure',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('scope', sa.String(), nullable=False),
    sa.Column('subject_hash', sa.String(), nullable=False),
    sa.Column('reason', sa.String(), nullable=True),
    sa.Column('actor', sa.String(), nullable=False),
    sa.Column('counts', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('dataset_ids', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('model_versions', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_erasure'))
    )
    op.create_table('indexed_text',
    sa.Column('id', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('variant', sa.String(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('signature_version', sa.Integer(), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_indexed_text'))
    )
    op.create_table('judge_call',
    sa.Column('key', sa.String(), nullable=False),
    sa.Column('model', sa.String(), nullable=False),
    sa.Column('rubric', sa.String(), nullable=False),
    sa.Column('interaction_id', sa.Uuid(), nullable=True),
    sa.Column('score', sa.Float(), nullable=True),
    sa.Column('reason', sa.String(), nullable=True),
    sa.Column('cost_usd', sa.Float(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('key', name=op.f('pk_judge_call'))
    )
    op.create_index(op.f('ix_judge_call_interaction_id'), 'judge_call', ['interaction_id'], unique=False)
    op.create_table('preference_pair',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('variant', sa.String(), nullable=False),
    sa.Column('basis', sa.String(), nullable=False),
    sa.Column('task_key', sa.String(), nullable=False),
    sa.Column('project', sa.String(), nullable=False),
    sa.Column('task_type', sa.String(), nullable=True),
    sa.Column('winner_id', sa.Uuid(), nullable=False),
    sa.Column('loser_id', sa.Uuid(), nullable=False),
    sa.Column('prompt', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('chosen', sa.String(), nullable=False),
    sa.Column('rejected', sa.String(), nullable=False),
    sa.Column('margin', sa.Float(), nullable=False),
    sa.Column('evidence', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('status', sa.String(), nullable=False),
    sa.Column('drop_reason', sa.String(), nullable=True),
    sa.Column('split', sa.String(), nullable=False),
    sa.Column('split_key', sa.String(), nullable=False),
    sa.Column('norm_hash', sa.String(), nullable=False),
    sa.Column('row_hash', sa.String(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_preference_pair')),
    sa.UniqueConstraint('winner_id', 'loser_id', 'basis', 'variant', name=op.f('uq_preference_pair_winner_id_loser_id_basis_variant'))
    )
    op.create_index('ix_preference_pair_loser_id', 'preference_pair', ['loser_id'], unique=False)
    op.create_index('ix_preference_pair_role', 'preference_pair', ['role', 'variant', 'status', 'id'], unique=False)
    op.create_table('protected_text',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('source', sa.String(), nullable=False),
    sa.Column('item_id', sa.String(), nullable=False),
    sa.Column('prompt', sa.String(), nullable=False),
    sa.Column('solution', sa.String(), nullable=False),
    sa.Column('keys', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_protected_text')),
    sa.UniqueConstraint('source', 'item_id', name=op.f('uq_protected_text_source_item_id'))
    )
    op.create_table('review_item',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('subject_id', sa.Uuid(), nullable=False),
    sa.Column('other_id', sa.Uuid(), nullable=True),
    sa.Column('reason', sa.String(), nullable=False),
    sa.Column('detail', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('priority', sa.Float(), nullable=False),
    sa.Column('n_wanted', sa.Integer(), nullable=False),
    sa.Column('status', sa.String(), nullable=False),
    sa.Column('assigned_to', sa.String(), nullable=True),
    sa.Column('leased_by', sa.String(), nullable=True),
    sa.Column('leased_until', sa.DateTime(timezone=True), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_review_item')),
    sa.UniqueConstraint('kind', 'subject_id', 'reason', name=op.f('uq_review_item_kind_subject_id_reason'))
    )
    op.create_index('ix_review_item_open', 'review_item', ['role', 'status', 'priority'], unique=False)
    op.create_index('ix_review_item_subject_id', 'review_item', ['subject_id'], unique=False)
    op.create_table('shard_row',
    sa.Column('shard', sa.String(), nullable=False),
    sa.Column('row_id', sa.Uuid(), nullable=False),
    sa.PrimaryKeyConstraint('shard', 'row_id', name=op.f('pk_shard_row'))
    )
    op.create_index(op.f('ix_shard_row_row_id'), 'shard_row', ['row_id'], unique=False)
    op.create_table('template_text',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('part', sa.String(), nullable=False),
    sa.Column('digest', sa.String(), nullable=False),
    sa.Column('text', sa.String(), nullable=False),
    sa.Column('n_seen', sa.Integer(), nullable=False),
    sa.Column('share', sa.Float(), nullable=False),
    sa.Column('active', sa.Boolean(), nullable=False),
    sa.Column('found_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_template_text')),
    sa.UniqueConstraint('role', 'digest', name=op.f('uq_template_text_role_digest'))
    )
    op.create_table('text_band',
    sa.Column('key', sa.BigInteger(), nullable=False),
    sa.Column('text_id', sa.BigInteger(), nullable=False)
    )
    op.create_index('ix_text_band_key', 'text_band', ['key'], unique=False, postgresql_using='hash')
    op.create_table('text_edge',
    sa.Column('low', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('high', sa.BigInteger(), autoincrement=False, nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('similarity', sa.Float(), nullable=False),
    sa.Column('rule_version', sa.Integer(), nullable=False),
    sa.Column('disposed', sa.String(), nullable=True),
    sa.Column('disposed_by', sa.String(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('low', 'high', name=op.f('pk_text_edge'))
    )
    op.create_index('ix_text_edge_high', 'text_edge', ['high'], unique=False)
    op.create_table('contamination',
    sa.Column('example_id', sa.Uuid(), nullable=False),
    sa.Column('protected_id', sa.Uuid(), nullable=False),
    sa.Column('method', sa.String(), nullable=False),
    sa.Column('similarity', sa.Float(), nullable=False),
    sa.Column('rule_version', sa.Integer(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['protected_id'], ['protected_text.id'], name=op.f('fk_contamination_protected_id_protected_text'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('example_id', 'protected_id', name=op.f('pk_contamination'))
    )
    op.create_index(op.f('ix_contamination_protected_id'), 'contamination', ['protected_id'], unique=False)
    op.create_table('curation_chunk',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('build_id', sa.Uuid(), nullable=False),
    sa.Column('step', sa.String(), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('ids', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('n_rows', sa.Integer(), nullable=False),
    sa.Column('counts', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('done_at', sa.DateTime(timezone=True), nullable=True),
    sa.ForeignKeyConstraint(['build_id'], ['curation_build.id'], name=op.f('fk_curation_chunk_build_id_curation_build'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_curation_chunk')),
    sa.UniqueConstraint('build_id', 'step', 'number', name=op.f('uq_curation_chunk_build_id_step_number'))
    )
    op.create_index('ix_curation_chunk_open', 'curation_chunk', ['build_id', 'step'], unique=False, postgresql_where=sa.text('done_at IS NULL'))
    op.create_table('review_draft',
    sa.Column('item_id', sa.Uuid(), nullable=False),
    sa.Column('reviewer', sa.String(), nullable=False),
    sa.Column('content', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('saved_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['item_id'], ['review_item.id'], name=op.f('fk_review_draft_item_id_review_item'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('item_id', 'reviewer', name=op.f('pk_review_draft'))
    )
    op.create_table('review_label',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('item_id', sa.Uuid(), nullable=False),
    sa.Column('interaction_id', sa.Uuid(), nullable=False),
    sa.Column('reviewer', sa.String(), nullable=False),
    sa.Column('action', sa.String(), nullable=False),
    sa.Column('value', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('reason', sa.String(), nullable=True),
    sa.Column('seconds', sa.Float(), nullable=True),
    sa.Column('undone_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.ForeignKeyConstraint(['item_id'], ['review_item.id'], name=op.f('fk_review_label_item_id_review_item'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_review_label'))
    )
    op.create_index('ix_review_label_interaction_id', 'review_label', ['interaction_id'], unique=False)
    op.create_index('ix_review_label_item_id', 'review_label', ['item_id'], unique=False)
    op.create_index('ix_review_label_reviewer', 'review_label', ['reviewer', 'created_at'], unique=False)
    op.create_table('dataset_shard',
    sa.Column('dataset_id', sa.Uuid(), nullable=False),
    sa.Column('split', sa.String(), nullable=False),
    sa.Column('position', sa.Integer(), nullable=False),
    sa.Column('shard', sa.String(), nullable=False),
    sa.Column('n_rows', sa.Integer(), nullable=False),
    sa.Column('uri', sa.String(), nullable=False),
    sa.Column('file', sa.String(), nullable=False),
    sa.Column('origin', sa.String(), nullable=False),
    sa.ForeignKeyConstraint(['dataset_id'], ['dataset.id'], name=op.f('fk_dataset_shard_dataset_id_dataset'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('dataset_id', 'split', 'position', name=op.f('pk_dataset_shard'))
    )
    op.create_index(op.f('ix_dataset_shard_shard'), 'dataset_shard', ['shard'], unique=False)
    # Where the log was read up to was told by the clock; now it is told by transactions. Without a
    # mark the next build looks at the whole log once and leaves what it knows.
    op.execute('DELETE FROM curation_watermark')
    op.add_column('curation_watermark', sa.Column('seen_xid', sa.BigInteger(), nullable=False))
    op.add_column('example', sa.Column('project', sa.String(), server_default=sa.text("'default'"), nullable=False))
    op.alter_column("example", "project", server_default=None)
    op.add_column('example', sa.Column('difficulty', sa.String(), nullable=True))
    op.add_column('example', sa.Column('language', sa.String(), nullable=True))
    op.add_column('example', sa.Column('code_language', sa.String(), nullable=True))
    op.add_column('example', sa.Column('answer_message', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True))
    op.add_column('example', sa.Column('polarity', sa.String(), server_default=sa.text("'unjudged'"), nullable=False))
    op.alter_column("example", "polarity", server_default=None)
    op.add_column('example', sa.Column('disagreement', sa.Float(), nullable=True))
    op.add_column('example', sa.Column('reviewed', sa.String(), nullable=True))
    op.add_column('example', sa.Column('text_id', sa.BigInteger(), nullable=True))
    op.add_column('example', sa.Column('prompt_text_id', sa.BigInteger(), nullable=True))
    op.add_column('example', sa.Column('row_hash', sa.String(), server_default=sa.text("''"), nullable=False))
    op.alter_column("example", "row_hash", server_default=None)
    op.add_column('example', sa.Column('protection', sa.String(), server_default=sa.text("''"), nullable=False))
    op.alter_column("example", "protection", server_default=None)
    op.add_column('example', sa.Column('source_xid', sa.BigInteger(), nullable=True))
    op.add_column('example', sa.Column('needs_judging', sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.alter_column("example", "needs_judging", server_default=None)
    op.add_column('example', sa.Column('needs_settling', sa.Boolean(), server_default=sa.text("false"), nullable=False))
    op.alter_column("example", "needs_settling", server_default=None)
    op.add_column('example', sa.Column('started_at', sa.DateTime(timezone=True), nullable=True))
    op.drop_index(op.f('ix_example_norm_hash'), table_name='example')
    op.drop_index(op.f('ix_example_role_status'), table_name='example')
    op.create_index('ix_example_role_status', 'example', ['role', 'variant', 'status', 'id'], unique=False)
    op.create_index('ix_example_needs_judging', 'example', ['role', 'variant', 'id'], unique=False, postgresql_where=sa.text('needs_judging'))
    op.create_index(op.f('ix_example_prompt_text_id'), 'example', ['prompt_text_id'], unique=False)
    op.create_index('ix_example_protection', 'example', ['role', 'variant', 'protection', 'id'], unique=False, postgresql_where=sa.text("status = 'kept' OR drop_reason = 'over_quota'"))
    op.create_index('ix_example_over_quota', 'example', ['role', 'variant'], unique=False, postgresql_where=sa.text("drop_reason = 'over_quota'"))
    op.create_index('ix_example_task_key', 'example', [sa.text("(scores->>'task_key')")], unique=False, postgresql_where=sa.text("scores->>'task_key' IS NOT NULL"))
    op.create_index('ix_example_text_id', 'example', ['text_id'], unique=False)
    op.create_index('ix_example_unsettled', 'example', ['role', 'variant', 'id'], unique=False, postgresql_where=sa.text('needs_settling'))
    # In two steps: a default given with a new column would be written into every old row.
    op.add_column('feedback', sa.Column('written_xid', sa.BigInteger(), nullable=True))
    op.alter_column('feedback', 'written_xid', server_default=sa.text('(pg_current_xact_id()::text)::bigint'))
    op.create_index('ix_feedback_written_xid', 'feedback', ['written_xid'], unique=False)
    op.create_index('ix_feedback_loser_interaction_id', 'feedback', ['loser_interaction_id'], unique=False, postgresql_where=sa.text('loser_interaction_id IS NOT NULL'))
    # In two steps: a default given with a new column would be written into every old row.
    op.add_column('interaction', sa.Column('written_xid', sa.BigInteger(), nullable=True))
    op.alter_column('interaction', 'written_xid', server_default=sa.text('(pg_current_xact_id()::text)::bigint'))
    op.create_index('ix_interaction_written_xid', 'interaction', ['written_xid'], unique=False, postgresql_using='brin')
    op.drop_table('example_band')
    _members_to_shards()


def downgrade() -> None:
    _shards_to_members()
    op.create_table('example_band',
    sa.Column('example_id', sa.Uuid(), nullable=False),
    sa.Column('band', sa.Integer(), nullable=False),
    sa.Column('key', sa.BigInteger(), nullable=False),
    sa.ForeignKeyConstraint(['example_id'], ['example.id'], name=op.f('fk_example_band_example_id_example')),
    sa.PrimaryKeyConstraint('example_id', 'band', name=op.f('pk_example_band'))
    )
    op.create_index('ix_example_band_key', 'example_band', ['key'], unique=False, postgresql_using='hash')
    op.execute('DELETE FROM curation_watermark')
    op.drop_index('ix_interaction_written_xid', table_name='interaction', postgresql_using='brin')
    op.drop_column('interaction', 'written_xid')
    op.drop_index('ix_feedback_loser_interaction_id', table_name='feedback', postgresql_where=sa.text('loser_interaction_id IS NOT NULL'))
    op.drop_index('ix_feedback_written_xid', table_name='feedback')
    op.drop_column('feedback', 'written_xid')
    op.drop_index('ix_example_unsettled', table_name='example', postgresql_where=sa.text('needs_settling'))
    op.drop_index('ix_example_over_quota', table_name='example', postgresql_where=sa.text("drop_reason = 'over_quota'"))
    op.drop_index('ix_example_protection', table_name='example', postgresql_where=sa.text("status = 'kept' OR drop_reason = 'over_quota'"))
    op.drop_index('ix_example_task_key', table_name='example', postgresql_where=sa.text("scores->>'task_key' IS NOT NULL"))
    op.drop_index('ix_example_text_id', table_name='example')
    op.drop_index(op.f('ix_example_prompt_text_id'), table_name='example')
    op.drop_index('ix_example_needs_judging', table_name='example', postgresql_where=sa.text('needs_judging'))
    op.drop_index('ix_example_role_status', table_name='example')
    op.create_index(op.f('ix_example_role_status'), 'example', ['role', 'status'], unique=False)
    op.create_index(op.f('ix_example_norm_hash'), 'example', ['role', 'variant', 'norm_hash'], unique=False)
    op.drop_column('example', 'started_at')
    op.drop_column('example', 'needs_settling')
    op.drop_column('example', 'needs_judging')
    op.drop_column('example', 'source_xid')
    op.drop_column('example', 'protection')
    op.drop_column('example', 'row_hash')
    op.drop_column('example', 'prompt_text_id')
    op.drop_column('example', 'text_id')
    op.drop_column('example', 'reviewed')
    op.drop_column('example', 'disagreement')
    op.drop_column('example', 'polarity')
    op.drop_column('example', 'answer_message')
    op.drop_column('example', 'code_language')
    op.drop_column('example', 'language')
    op.drop_column('example', 'difficulty')
    op.drop_column('example', 'project')
    op.drop_column('curation_watermark', 'seen_xid')
    op.drop_index(op.f('ix_dataset_shard_shard'), table_name='dataset_shard')
    op.drop_table('dataset_shard')
    op.drop_index('ix_review_label_reviewer', table_name='review_label')
    op.drop_index('ix_review_label_item_id', table_name='review_label')
    op.drop_index('ix_review_label_interaction_id', table_name='review_label')
    op.drop_table('review_label')
    op.drop_table('review_draft')
    op.drop_index('ix_curation_chunk_open', table_name='curation_chunk', postgresql_where=sa.text('done_at IS NULL'))
    op.drop_table('curation_chunk')
    op.drop_index(op.f('ix_contamination_protected_id'), table_name='contamination')
    op.drop_table('contamination')
    op.drop_index('ix_text_edge_high', table_name='text_edge')
    op.drop_table('text_edge')
    op.drop_index('ix_text_band_key', table_name='text_band', postgresql_using='hash')
    op.drop_table('text_band')
    op.drop_table('template_text')
    op.drop_index(op.f('ix_shard_row_row_id'), table_name='shard_row')
    op.drop_table('shard_row')
    op.drop_index('ix_review_item_subject_id', table_name='review_item')
    op.drop_index('ix_review_item_open', table_name='review_item')
    op.drop_table('review_item')
    op.drop_table('protected_text')
    op.drop_index('ix_preference_pair_role', table_name='preference_pair')
    op.drop_index('ix_preference_pair_loser_id', table_name='preference_pair')
    op.drop_table('preference_pair')
    op.drop_index(op.f('ix_judge_call_interaction_id'), table_name='judge_call')
    op.drop_table('judge_call')
    op.drop_table('indexed_text')
    op.drop_table('erasure')
    op.drop_table('embedding')
    op.drop_index('uq_curation_build_open', table_name='curation_build', postgresql_where=sa.text('finished_at IS NULL'))
    op.drop_table('curation_build')
    op.drop_index('ix_calibration_role', table_name='calibration')
    op.drop_table('calibration')


def _members_to_shards() -> None:
    """Keep the membership of old versions: each of their split files becomes a shard."""
    op.execute("""
        INSERT INTO dataset_shard (dataset_id, split, position, shard, n_rows, uri, file, origin)
        SELECT d.id, m.split, 0, 'v1-' || d.id || '-' || m.split, count(*), d.artifact_uri,
               m.split || '.parquet', 'log'
        FROM dataset d JOIN dataset_example m ON m.dataset_id = d.id
        WHERE d.artifact_uri IS NOT NULL
        GROUP BY d.id, m.split
    """)
    op.execute("""
        INSERT INTO shard_row (shard, row_id)
        SELECT 'v1-' || m.dataset_id || '-' || m.split, m.example_id
        FROM dataset_example m JOIN dataset d ON d.id = m.dataset_id
        WHERE d.artifact_uri IS NOT NULL
    """)
    op.drop_table('dataset_example')
    op.execute("""
        CREATE VIEW dataset_example AS
        SELECT s.dataset_id, r.row_id AS example_id, s.split
        FROM dataset_shard s JOIN shard_row r ON r.shard = s.shard
    """)


def _shards_to_members() -> None:
    """Give back the membership table; rows that are no examples (pairs) have no place in it."""
    op.execute("""
        CREATE TEMPORARY TABLE kept_members ON COMMIT DROP AS
        SELECT DISTINCT ON (m.dataset_id, m.example_id) m.* FROM dataset_example m
        JOIN example e ON e.id = m.example_id
    """)
    op.execute('DROP VIEW dataset_example')
    op.create_table('dataset_example',
    sa.Column('dataset_id', sa.Uuid(), nullable=False),
    sa.Column('example_id', sa.Uuid(), nullable=False),
    sa.Column('split', sa.String(), nullable=False),
    sa.ForeignKeyConstraint(['dataset_id'], ['dataset.id'], name=op.f('fk_dataset_example_dataset_id_dataset')),
    sa.ForeignKeyConstraint(['example_id'], ['example.id'], name=op.f('fk_dataset_example_example_id_example')),
    sa.PrimaryKeyConstraint('dataset_id', 'example_id', name=op.f('pk_dataset_example'))
    )
    op.create_index(op.f('ix_dataset_example_example_id'), 'dataset_example', ['example_id'], unique=False)
    op.execute('INSERT INTO dataset_example SELECT dataset_id, example_id, split FROM kept_members')
