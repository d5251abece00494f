"""Lifecycle: rest, archive, warm pool, decisions and announcements"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "announcements",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("telegram_id", sa.BigInteger(), nullable=False),
        sa.Column("news", sa.String(length=16), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("told_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("announcements", schema=None) as batch_op:
        batch_op.create_index("announcements_of_person", ["telegram_id"], unique=False)
        batch_op.create_index(
            "announcements_untold",
            ["id"],
            unique=False,
            sqlite_where=sa.text("told_at IS NULL"),
            postgresql_where=sa.text("told_at IS NULL"),
        )

    op.create_table(
        "decisions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), nullable=False),
        sa.Column("instance_id", sa.String(length=12), nullable=False),
        sa.Column("first_at", sa.Double(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    with op.batch_alter_table("decisions", schema=None) as batch_op:
        batch_op.create_index("decisions_of_instance", ["instance_id", "id"], unique=False)

    with op.batch_alter_table("instances", schema=None) as batch_op:
        batch_op.add_column(sa.Column("suspension_id", sa.String(length=128), nullable=True))
        batch_op.add_column(sa.Column("resting_since", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("next_job_at", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("jobs", sa.JSON(), nullable=True))
        batch_op.add_column(sa.Column("archive", sa.String(length=64), nullable=True))
        batch_op.add_column(sa.Column("rest_told_at", sa.Double(), nullable=True))
        batch_op.add_column(sa.Column("warmed_at", sa.Double(), nullable=True))

    with op.batch_alter_table("wishes", schema=None) as batch_op:
        batch_op.add_column(sa.Column("awake_until", sa.Double(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("wishes", schema=None) as batch_op:
        batch_op.drop_column("awake_until")

    with op.batch_alter_table("instances", schema=None) as batch_op:
        batch_op.drop_column("warmed_at")
        batch_op.drop_column("rest_told_at")
        batch_op.drop_column("archive")
        batch_op.drop_column("jobs")
        batch_op.drop_column("next_job_at")
        batch_op.drop_column("resting_since")
        batch_op.drop_column("suspension_id")

    with op.batch_alter_table("decisions", schema=None) as batch_op:
        batch_op.drop_index("decisions_of_instance")

    op.drop_table("decisions")
    with op.batch_alter_table("announcements", schema=None) as batch_op:
        batch_op.drop_index(
            "announcements_untold", sqlite_where=sa.text("told_at IS NULL"), postgresql_where=sa.text("told_at IS NULL")
        )
        batch_op.drop_index("announcements_of_person")

    op.drop_table("announcements")
