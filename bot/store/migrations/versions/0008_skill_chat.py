"""Skills in the chat: what people chose, what they write about if they let us look, messages that follow"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "skill_people",
        sa.Column("telegram_id", sa.BigInteger(), nullable=False),
        sa.Column("offer_at", sa.Double(), nullable=True),
        sa.Column("from_messages", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("telegram_id"),
    )
    op.create_index(
        "skill_people_offers",
        "skill_people",
        ["offer_at"],
        sqlite_where=sa.text("offer_at IS NOT NULL"),
        postgresql_where=sa.text("offer_at IS NOT NULL"),
    )
    op.create_table(
        "skill_interests",
        sa.Column("telegram_id", sa.BigInteger(), nullable=False),
        sa.Column("need", sa.String(24), nullable=False),
        sa.Column("last_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("telegram_id", "need"),
    )
    op.create_table(
        "skill_progress",
        sa.Column("telegram_id", sa.BigInteger(), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("slug", sa.String(64), nullable=False),
        sa.Column("message_id", sa.BigInteger(), nullable=False),
        sa.Column("shown", sa.String(12), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.Column("since", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("telegram_id", "owner", "slug"),
    )


def downgrade() -> None:
    op.drop_table("skill_progress")
    op.drop_table("skill_interests")
    op.drop_index("skill_people_offers", table_name="skill_people")
    op.drop_table("skill_people")
