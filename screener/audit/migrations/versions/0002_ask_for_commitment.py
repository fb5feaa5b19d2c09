"""Remember what a destination was asked to commit to.

Revision 0002, after 0001.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the transaction of a storage commitment and the count of denials."""
    op.add_column("deliveries", sa.Column("commitment_uid", sa.String(), nullable=True))
    op.add_column(
        "deliveries", sa.Column("n_denials", sa.Integer(), nullable=False, server_default="0")
    )
    op.create_index("ix_deliveries_commitment_uid", "deliveries", ["commitment_uid"])
