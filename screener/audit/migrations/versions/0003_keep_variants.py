"""Remember which report a variant in another SOP class stands for.

Revision 0003, after 0002.
"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the original of a variant; an original has none."""
    op.add_column("result_objects", sa.Column("variant_of", sa.String(), nullable=True))
