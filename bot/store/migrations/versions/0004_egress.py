"""How far instances get: what is wished, and what their stacks declare"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("instances", schema=None) as batch_op:
        batch_op.add_column(sa.Column("egress", sa.String(length=8), server_default="open", nullable=False))

    with op.batch_alter_table("wishes", schema=None) as batch_op:
        batch_op.add_column(sa.Column("egress", sa.String(length=8), nullable=True))


def downgrade() -> None:
    with op.batch_alter_table("wishes", schema=None) as batch_op:
        batch_op.drop_column("egress")

    with op.batch_alter_table("instances", schema=None) as batch_op:
        batch_op.drop_column("egress")
