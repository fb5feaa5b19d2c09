"""Forbid to empty the count of events in one go.

Revision 0006, after 0005.
"""

from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the trigger; SQLite knows no TRUNCATE."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute(
            """CREATE TRIGGER trail_counts_no_truncate BEFORE TRUNCATE ON trail_counts
            FOR EACH STATEMENT EXECUTE FUNCTION refuse_count_change()"""
        )
