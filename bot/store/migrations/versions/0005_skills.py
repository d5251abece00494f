"""Skills: what the registry told, what vetting made of it, the operator's rules, recalls, and who has what"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_Serial = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    op.create_table(
        "skills",
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("slug", sa.String(64), nullable=False),
        sa.Column("display_name", sa.Text(), nullable=False),
        sa.Column("summary", sa.Text(), nullable=False),
        sa.Column("latest", sa.String(64), nullable=True),
        sa.Column("published_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("gone_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("owner", "slug"),
    )
    op.create_table(
        "skill_versions",
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("slug", sa.String(64), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("verdict", sa.String(16), nullable=False),
        sa.Column("reasons", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(71), nullable=True),
        sa.Column("archive", sa.String(64), nullable=True),
        sa.Column("fingerprint", sa.String(64), nullable=True),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("files", sa.JSON(), nullable=False),
        sa.Column("needs", sa.JSON(), nullable=False),
        sa.Column("upstream", sa.JSON(), nullable=False),
        sa.Column("changelog", sa.Text(), nullable=False),
        sa.Column("published_at", sa.Double(), nullable=False),
        sa.Column("vetted_at", sa.Double(), nullable=False),
        sa.Column("checked_at", sa.Double(), nullable=False),
        sa.Column("used_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "slug", "version"),
    )
    op.create_index("skill_versions_digest", "skill_versions", ["digest"])
    op.create_index("skill_versions_archive", "skill_versions", ["archive"])
    op.create_table(
        "skill_rules",
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("slug", sa.String(64), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("effect", sa.String(8), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("made_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "slug", "version"),
    )
    op.create_table(
        "skill_recalls",
        sa.Column("id", _Serial, nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("slug", sa.String(64), nullable=False),
        sa.Column("version", sa.String(64), nullable=True),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("source", sa.String(16), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("lifted_at", sa.Double(), nullable=True),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("skill_recalls_of_skill", "skill_recalls", ["owner", "slug"])
    op.create_table(
        "skill_locks",
        sa.Column("instance_id", sa.String(12), nullable=False),
        sa.Column("owner", sa.String(64), nullable=False),
        sa.Column("slug", sa.String(64), nullable=False),
        sa.Column("version", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(71), nullable=False),
        sa.Column("origin", sa.String(16), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("remove_since", sa.Double(), nullable=True),
        sa.Column("recall_id", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("instance_id", "owner", "slug", "version"),
    )
    op.create_index("skill_locks_of_version", "skill_locks", ["owner", "slug", "version"])
    op.create_index(
        "skill_locks_to_remove",
        "skill_locks",
        ["instance_id"],
        sqlite_where=sa.text("remove_since IS NOT NULL"),
        postgresql_where=sa.text("remove_since IS NOT NULL"),
    )


def downgrade() -> None:
    for table in ("skill_locks", "skill_recalls", "skill_rules", "skill_versions", "skills"):
        op.drop_table(table)
