"""capture without loss.

Revision: 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = '0002'
down_revision = '0001'
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table('campaign',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('role', sa.String(), nullable=False),
    sa.Column('spec', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('spec_hash', sa.String(), nullable=False),
    sa.Column('scrub_version', sa.String(), nullable=True),
    sa.Column('status', sa.String(), nullable=False),
    sa.Column('reason', sa.String(), nullable=True),
    sa.Column('n_target', sa.Integer(), nullable=False),
    sa.Column('n_done', sa.Integer(), nullable=False),
    sa.Column('n_duplicate', sa.Integer(), nullable=False),
    sa.Column('n_failed', sa.Integer(), nullable=False),
    sa.Column('cost_usd', sa.Float(), nullable=False),
    sa.Column('report', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('updated_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_campaign')),
    sa.UniqueConstraint('name', name=op.f('uq_campaign_name'))
    )
    op.create_table('dead_letter',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('kind', sa.String(), nullable=False),
    sa.Column('record_id', sa.String(), nullable=False),
    sa.Column('source', sa.String(), nullable=False),
    sa.Column('code', sa.String(), nullable=False),
    sa.Column('reason', sa.String(), nullable=False),
    sa.Column('record', sa.String(), nullable=False),
    sa.Column('received_at', sa.DateTime(timezone=True), nullable=False),
    sa.Column('settled_at', sa.DateTime(timezone=True), nullable=True),
    sa.Column('outcome', sa.String(), nullable=True),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_dead_letter')),
    sa.UniqueConstraint('kind', 'record_id', 'code', name=op.f('uq_dead_letter_kind_record_id_code'))
    )
    op.create_index('ix_dead_letter_received_at', 'dead_letter', ['received_at'], unique=False)
    op.create_table('media',
    sa.Column('content_hash', sa.String(), nullable=False),
    sa.Column('uri', sa.String(), nullable=False),
    sa.Column('media_type', sa.String(), nullable=False),
    sa.Column('size_bytes', sa.BigInteger(), nullable=False),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('content_hash', name=op.f('pk_media'))
    )
    op.create_table('metric',
    sa.Column('name', sa.String(), nullable=False),
    sa.Column('direction', sa.String(), nullable=False),
    sa.Column('low', sa.Float(), nullable=True),
    sa.Column('high', sa.Float(), nullable=True),
    sa.Column('description', sa.String(), nullable=True),
    sa.Column('created_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('name', name=op.f('pk_metric'))
    )
    op.create_table('otel_export',
    sa.Column('endpoint', sa.String(), nullable=False),
    sa.Column('exported_until', sa.DateTime(timezone=True), nullable=False),
    sa.Column('last_id', sa.Uuid(), nullable=True),
    sa.Column('unsettled', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=True),
    sa.Column('n_exported', sa.BigInteger(), nullable=False),
    sa.PrimaryKeyConstraint('endpoint', name=op.f('pk_otel_export'))
    )
    op.create_table('spool_account',
    sa.Column('writer', sa.String(), nullable=False),
    sa.Column('source', sa.String(), nullable=False),
    sa.Column('seen', sa.BigInteger(), nullable=False),
    sa.Column('delivered', sa.BigInteger(), nullable=False),
    sa.Column('waiting', sa.BigInteger(), nullable=False),
    sa.Column('held', sa.BigInteger(), nullable=False),
    sa.Column('damaged', sa.BigInteger(), nullable=False),
    sa.Column('dropped', postgresql.JSONB(none_as_null=True, astext_type=sa.Text()), nullable=False),
    sa.Column('reported_at', sa.DateTime(timezone=True), nullable=False),
    sa.PrimaryKeyConstraint('writer', name=op.f('pk_spool_account'))
    )
    op.create_index('ix_spool_account_source', 'spool_account', ['source'], unique=False)
    op.create_table('campaign_item',
    sa.Column('id', sa.Uuid(), nullable=False),
    sa.Column('campaign_id', sa.Uuid(), nullable=False),
    sa.Column('number', sa.Integer(), nullable=False),
    sa.Column('topic', sa.String(), nullable=True),
    sa.Column('difficulty', sa.String(), nullable=True),
    sa.Column('model', sa.String(), nullable=True),
    sa.Column('status', sa.String(), nullable=False),
    sa.Column('task', sa.String(), nullable=True),
    sa.Column('task_hash', sa.String(), nullable=True),
    sa.Column('interaction_id', sa.Uuid(), nullable=True),
    sa.Column('passed', sa.Boolean(), nullable=True),
    sa.Column('cost_usd', sa.Float(), nullable=True),
    sa.Column('detail', sa.String(), nullable=True),
    sa.ForeignKeyConstraint(['campaign_id'], ['campaign.id'], name=op.f('fk_campaign_item_campaign_id_campaign'), ondelete='CASCADE'),
    sa.PrimaryKeyConstraint('id', name=op.f('pk_campaign_item')),
    sa.UniqueConstraint('campaign_id', 'number', name=op.f('uq_campaign_item_campaign_id_number'))
    )
    op.create_index(op.f('ix_campaign_item_task_hash'), 'campaign_item', ['task_hash'], unique=False)
    op.add_column('feedback', sa.Column('interaction_key', sa.String(), nullable=True))
    op.add_column('feedback', sa.Column('response_id', sa.String(), nullable=True))
    op.add_column('feedback', sa.Column('project', sa.String(), nullable=True))
    op.add_column('feedback', sa.Column('loser_interaction_key', sa.String(), nullable=True))
    op.add_column('feedback', sa.Column('loser_response_id', sa.String(), nullable=True))
    op.add_column('feedback', sa.Column('derived_from', sa.Uuid(), nullable=True))
    op.add_column('feedback', sa.Column('scrub_version', sa.String(), nullable=True))
    op.create_index('ix_feedback_derived_from', 'feedback', ['derived_from'], unique=False, postgresql_where=sa.text('derived_from IS NOT NULL'))
    op.create_index('ix_feedback_waiting_key', 'feedback', ['interaction_key'], unique=False, postgresql_where=sa.text('interaction_id IS NULL AND interaction_key IS NOT NULL'))
    op.create_index('ix_feedback_waiting_response_id', 'feedback', ['response_id'], unique=False, postgresql_where=sa.text('interaction_id IS NULL AND response_id IS NOT NULL'))
    op.create_index('ix_feedback_waiting_loser_key', 'feedback', ['loser_interaction_key'], unique=False, postgresql_where=sa.text('loser_interaction_id IS NULL AND loser_interaction_key IS NOT NULL'))
    op.create_index('ix_feedback_waiting_loser_response_id', 'feedback', ['loser_response_id'], unique=False, postgresql_where=sa.text('loser_interaction_id IS NULL AND loser_response_id IS NOT NULL'))
    op.add_column('assignment', sa.Column('late_at', sa.DateTime(timezone=True), nullable=True))
    op.add_column('interaction', sa.Column('key', sa.String(), nullable=True))
    op.add_column('interaction', sa.Column('gen_ai_request_top_p', sa.Float(), nullable=True))
    op.add_column('interaction', sa.Column('gen_ai_request_seed', sa.BigInteger(), nullable=True))
    op.add_column('interaction', sa.Column('gen_ai_request_stream', sa.Boolean(), nullable=True))
    op.add_column('interaction', sa.Column('gen_ai_conversation_id', sa.String(), nullable=True))
    op.add_column('interaction', sa.Column('gen_ai_prompt_name', sa.String(), nullable=True))
    op.add_column('interaction', sa.Column('gen_ai_prompt_version', sa.String(), nullable=True))
    op.add_column('interaction', sa.Column('gen_ai_usage_cache_read_input_tokens', sa.Integer(), nullable=True))
    op.add_column('interaction', sa.Column('gen_ai_usage_reasoning_output_tokens', sa.Integer(), nullable=True))
    op.add_column('interaction', sa.Column('tool_schema_hash', sa.String(), nullable=True))
    op.add_column('interaction', sa.Column('config_hash', sa.String(), nullable=True))
    op.add_column('interaction', sa.Column('semconv_version', sa.String(), nullable=True))
    op.add_column('interaction', sa.Column('scrub_version', sa.String(), nullable=True))
    op.create_index('ix_interaction_gen_ai_response_id', 'interaction', ['gen_ai_response_id'], unique=False, postgresql_where=sa.text('gen_ai_response_id IS NOT NULL'))
    op.create_index('ix_interaction_ingested_at', 'interaction', ['ingested_at'], unique=False, postgresql_using='brin')
    op.create_index('ix_interaction_key', 'interaction', ['key'], unique=False, postgresql_where=sa.text('key IS NOT NULL'))
    op.alter_column('interaction_payload', 'request',
               existing_type=postgresql.JSONB(astext_type=sa.Text()),
               type_=postgresql.JSON(none_as_null=True, astext_type=sa.Text()),
               existing_nullable=False)
    op.alter_column('interaction_payload', 'response',
               existing_type=postgresql.JSONB(astext_type=sa.Text()),
               type_=postgresql.JSON(none_as_null=True, astext_type=sa.Text()),
               existing_nullable=True)


def downgrade() -> None:
    op.alter_column('interaction_payload', 'response', postgresql_using='response::jsonb',
               existing_type=postgresql.JSON(none_as_null=True, astext_type=sa.Text()),
               type_=postgresql.JSONB(astext_type=sa.Text()),
               existing_nullable=True)
    op.alter_column('interaction_payload', 'request', postgresql_using='request::jsonb',
               existing_type=postgresql.JSON(none_as_null=True, astext_type=sa.Text()),
               type_=postgresql.JSONB(astext_type=sa.Text()),
               existing_nullable=False)
    op.drop_index('ix_interaction_ingested_at', table_name='interaction', postgresql_using='brin')
    op.drop_index('ix_interaction_key', table_name='interaction', postgresql_where=sa.text('key IS NOT NULL'))
    op.drop_index('ix_interaction_gen_ai_response_id', table_name='interaction', postgresql_where=sa.text('gen_ai_response_id IS NOT NULL'))
    op.drop_column('interaction', 'scrub_version')
    op.drop_column('interaction', 'semconv_version')
    op.drop_column('interaction', 'config_hash')
    op.drop_column('interaction', 'tool_schema_hash')
    op.drop_column('interaction', 'gen_ai_usage_reasoning_output_tokens')
    op.drop_column('interaction', 'gen_ai_usage_cache_read_input_tokens')
    op.drop_column('interaction', 'gen_ai_prompt_version')
    op.drop_column('interaction', 'gen_ai_prompt_name')
    op.drop_column('interaction', 'gen_ai_conversation_id')
    op.drop_column('interaction', 'gen_ai_request_stream')
    op.drop_column('interaction', 'gen_ai_request_seed')
    op.drop_column('interaction', 'gen_ai_request_top_p')
    op.drop_column('interaction', 'key')
    op.drop_column('assignment', 'late_at')
    op.drop_index('ix_feedback_waiting_loser_response_id', table_name='feedback', postgresql_where=sa.text('loser_interaction_id IS NULL AND loser_response_id IS NOT NULL'))
    op.drop_index('ix_feedback_waiting_loser_key', table_name='feedback', postgresql_where=sa.text('loser_interaction_id IS NULL AND loser_interaction_key IS NOT NULL'))
    op.drop_index('ix_feedback_waiting_response_id', table_name='feedback', postgresql_where=sa.text('interaction_id IS NULL AND response_id IS NOT NULL'))
    op.drop_index('ix_feedback_waiting_key', table_name='feedback', postgresql_where=sa.text('interaction_id IS NULL AND interaction_key IS NOT NULL'))
    op.drop_index('ix_feedback_derived_from', table_name='feedback', postgresql_where=sa.text('derived_from IS NOT NULL'))
    op.drop_column('feedback', 'scrub_version')
    op.drop_column('feedback', 'derived_from')
    op.drop_column('feedback', 'loser_response_id')
    op.drop_column('feedback', 'loser_interaction_key')
    op.drop_column('feedback', 'project')
    op.drop_column('feedback', 'response_id')
    op.drop_column('feedback', 'interaction_key')
    op.drop_index(op.f('ix_campaign_item_task_hash'), table_name='campaign_item')
    op.drop_table('campaign_item')
    op.drop_index('ix_spool_account_source', table_name='spool_account')
    op.drop_table('spool_account')
    op.drop_table('otel_export')
    op.drop_table('metric')
    op.drop_table('media')
    op.drop_index('ix_dead_letter_received_at', table_name='dead_letter')
    op.drop_table('dead_letter')
    op.drop_table('campaign')
