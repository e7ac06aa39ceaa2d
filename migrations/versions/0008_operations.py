"""Operations: by which key a record came, what a key opens, traces that reach the worker.

Revision: 0008, after 0007.
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql
revision = '0008'
down_revision = '0007'
branch_labels = None
depends_on = None


def _json() -> postgresql.JSONB:
    return postgresql.JSONB(none_as_null=True, astext_type=sa.Text())


def upgrade() -> None:
    op.add_column('interaction', sa.Column('key_id', sa.Uuid(), nullable=True))
    op.add_column('feedback', sa.Column('key_id', sa.Uuid(), nullable=True))
    op.add_column('gateway_key', sa.Column('scopes', _json(), nullable=True))
    op.add_column('gateway_key', sa.Column('previous_hash', sa.String(), nullable=True))
    op.add_column('gateway_key', sa.Column('previous_expires_at', sa.DateTime(timezone=True), nullable=True))
    op.add_column('gateway_key', sa.Column('last_used_at', sa.DateTime(timezone=True), nullable=True))
    op.add_column('dead_letter', sa.Column('key_id', sa.Uuid(), nullable=True))
    op.add_column('run', sa.Column('traceparent', sa.String(), nullable=True))
    op.add_column('erasure', sa.Column('proof', _json(), nullable=True))
    op.add_column('experiment', sa.Column('seen_xid', sa.BigInteger(), nullable=True))
    op.create_table(
        'schema_compat',
        sa.Column('revision', sa.String(), nullable=False),
        sa.Column('oldest_code', sa.String(), nullable=False),
        sa.Column('made_at', sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint('revision'),
    )
    op.execute("INSERT INTO schema_compat VALUES ('0008', '0007', now())")
    op.add_column('model_version', sa.Column('attestation', _json(), nullable=True))
    op.create_table(
        'source_trust',
        sa.Column('source', sa.String(), nullable=False),
        sa.Column('trust', sa.String(), nullable=False),
        sa.Column('since', sa.DateTime(timezone=True), nullable=True),
        sa.Column('reason', sa.String(), nullable=False),
        sa.Column('actor', sa.String(), nullable=False),
        sa.Column('updated_at', sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint('source'),
    )


def downgrade() -> None:
    op.drop_table('source_trust')
    op.drop_column('model_version', 'attestation')
    op.drop_table('schema_compat')
    op.drop_column('experiment', 'seen_xid')
    op.drop_column('erasure', 'proof')
    op.drop_column('run', 'traceparent')
    op.drop_column('dead_letter', 'key_id')
    op.drop_column('gateway_key', 'last_used_at')
    op.drop_column('gateway_key', 'previous_expires_at')
    op.drop_column('gateway_key', 'previous_hash')
    # Code of before knows of no scopes: each key that is left opens the gateway.
    op.execute(
        "UPDATE gateway_key SET revoked_at = now() WHERE revoked_at IS NULL"
        " AND scopes IS NOT NULL AND NOT scopes ?| array['gateway', 'admin']"
    )
    op.drop_column('gateway_key', 'scopes')
    op.drop_column('feedback', 'key_id')
    op.drop_column('interaction', 'key_id')
