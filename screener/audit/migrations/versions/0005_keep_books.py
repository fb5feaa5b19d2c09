"""Keep books: purged files, deliveries of a run, alerts, sums, the count of events, exports.

Revision 0005, after 0004.
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_TIME = sa.DateTime(timezone=True)
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_OPEN = sa.text("resolved_at IS NULL")

# The count of events only grows, so that rows that vanish are missed.
_SQLITE_TRIGGERS = (
    """CREATE TRIGGER trail_counts_grow BEFORE UPDATE ON trail_counts
    WHEN NOT NEW.n_written > OLD.n_written
    BEGIN SELECT RAISE(ABORT, 'the count of events only grows'); END""",
    """CREATE TRIGGER trail_counts_no_delete BEFORE DELETE ON trail_counts
    BEGIN SELECT RAISE(ABORT, 'the count of events only grows'); END""",
)
_POSTGRESQL_TRIGGERS = (
    """CREATE FUNCTION refuse_count_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'the count of events only grows' USING ERRCODE = 'check_violation';
    END $$""",
    """CREATE TRIGGER trail_counts_grow BEFORE UPDATE ON trail_counts FOR EACH ROW
    WHEN (NOT NEW.n_written > OLD.n_written) EXECUTE FUNCTION refuse_count_change()""",
    """CREATE TRIGGER trail_counts_no_delete BEFORE DELETE ON trail_counts FOR EACH ROW
    EXECUTE FUNCTION refuse_count_change()""",
)


def upgrade() -> None:
    """Add columns and tables; the count starts at the events that are there."""
    op.add_column("instances", sa.Column("purged_at", _TIME, nullable=True))
    op.add_column("result_objects", sa.Column("purged_at", _TIME, nullable=True))
    op.add_column("runs", sa.Column("n_deliveries", sa.Integer(), nullable=True))
    _create_alerts()
    op.create_table(
        "books",
        sa.Column("books_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("checked_at", _TIME, nullable=False),
        sa.Column("is_balanced", sa.Boolean(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("books_id", name="pk_books"),
    )
    op.create_table(
        "trail_counts",
        sa.Column("trail_count_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("n_written", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("trail_count_id", name="pk_trail_counts"),
    )
    op.create_table(
        "trail_exports",
        sa.Column("sink", sa.String(), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("exported_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("sink", name="pk_trail_exports"),
    )
    op.execute("INSERT INTO trail_counts (trail_count_id, n_written) "
               "SELECT 1, COUNT(*) FROM events")  # fmt: skip
    is_sqlite = op.get_bind().dialect.name == "sqlite"
    for statement in _SQLITE_TRIGGERS if is_sqlite else _POSTGRESQL_TRIGGERS:
        op.execute(statement)


def _create_alerts() -> None:
    op.create_table(
        "alerts",
        sa.Column("alert_id", _NUMBER, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("detail", sa.String(), nullable=False),
        sa.Column("raised_at", _TIME, nullable=False),
        sa.Column("last_seen_at", _TIME, nullable=False),
        sa.Column("resolved_at", _TIME, nullable=True),
        sa.PrimaryKeyConstraint("alert_id", name="pk_alerts"),
    )
    op.create_index(
        "uq_alerts_open_cause",
        "alerts",
        ["kind", "subject"],
        unique=True,
        sqlite_where=_OPEN,
        postgresql_where=_OPEN,
    )
