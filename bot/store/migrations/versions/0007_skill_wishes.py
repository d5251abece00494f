"""Skills in instances: what people want of them, and how far that is met"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "skill_wishes",
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("slug", sa.String(64), nullable=False),
        sa.Column("wanted", sa.String(8), nullable=False),
        sa.Column("policy", sa.String(8), nullable=False),
        sa.Column("version", sa.String(64), nullable=True),
        sa.Column("approved", sa.String(64), nullable=True),
        sa.Column("source", sa.String(12), nullable=False),
        sa.Column("asked_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("user_id", "owner", "slug"),
    )
    op.create_table(
        "skill_states",
        sa.Column("instance_id", sa.String(12), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("slug", sa.String(64), nullable=False),
        sa.Column("state", sa.String(12), nullable=False),
        sa.Column("version", sa.String(64), nullable=True),
        sa.Column("offered", sa.String(64), nullable=True),
        sa.Column("asks", sa.JSON(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("instance_id", "owner", "slug"),
    )


def downgrade() -> None:
    op.drop_table("skill_states")
    op.drop_table("skill_wishes")
