"""Find a series by its own UID, and what is in quarantine, without reading all instances.

Revision 0004, after 0003.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_IN_QUARANTINE = sa.text("quarantine_reason IS NOT NULL")


def upgrade() -> None:
    """Add two indices."""
    op.create_index("ix_series_series_instance_uid", "series", ["series_instance_uid"])
    op.create_index(
        "ix_instances_quarantined",
        "instances",
        ["received_at"],
        sqlite_where=_IN_QUARANTINE,
        postgresql_where=_IN_QUARANTINE,
    )
