"""Disks of instances: where each is, and what its person was told of it"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("instances", schema=None) as batch_op:
        batch_op.add_column(sa.Column("volumes", sa.Text(), nullable=True))
        batch_op.add_column(sa.Column("disk_told", sa.Integer(), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("instances", schema=None) as batch_op:
        batch_op.drop_column("disk_told")
        batch_op.drop_column("volumes")
