"""Lay the tables and forbid changes to events.

Revision 0001, the first.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


_TIME = sa.DateTime(timezone=True)
_NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_STATE = sa.String(40)
_ACTIVE_RUN = sa.text("state IN ('queued', 'running')")


# Events are append only. The sealer may fill the three empty seal columns of a row, once.
_UNCHANGED = (
    "event_id",
    "kind",
    "occurred_at",
    "study_instance_uid",
    "run_id",
    "payload",
    "digest",
)
_SQLITE_SEALS_ONLY = " AND ".join(f"NEW.{name} IS OLD.{name}" for name in _UNCHANGED)
_POSTGRESQL_SEALS_ONLY = " AND ".join(
    f"NEW.{name} IS NOT DISTINCT FROM OLD.{name}" for name in _UNCHANGED
)
_SQLITE_TRIGGERS = (
    f"""CREATE TRIGGER events_no_update BEFORE UPDATE ON events
    WHEN NOT (OLD.sequence IS NULL AND NEW.sequence IS NOT NULL AND {_SQLITE_SEALS_ONLY})
    BEGIN SELECT RAISE(ABORT, 'events are append only'); END""",
    """CREATE TRIGGER events_no_delete BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'events are append only'); END""",
)
_POSTGRESQL_TRIGGERS = (
    """CREATE FUNCTION refuse_event_change() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'events are append only' USING ERRCODE = 'check_violation'; END $$""",
    f"""CREATE TRIGGER events_no_update BEFORE UPDATE ON events FOR EACH ROW
    WHEN (NOT (OLD.sequence IS NULL AND NEW.sequence IS NOT NULL AND {_POSTGRESQL_SEALS_ONLY}))
    EXECUTE FUNCTION refuse_event_change()""",
    """CREATE TRIGGER events_no_delete BEFORE DELETE ON events FOR EACH ROW
    EXECUTE FUNCTION refuse_event_change()""",
    """CREATE TRIGGER events_no_truncate BEFORE TRUNCATE ON events FOR EACH STATEMENT
    EXECUTE FUNCTION refuse_event_change()""",
)


def upgrade() -> None:
    """Lay the tables and forbid changes to events."""
    _create_what_came_in()
    _create_runs()
    _create_deliveries()
    _create_record()
    triggers = _SQLITE_TRIGGERS if op.get_bind().dialect.name == "sqlite" else _POSTGRESQL_TRIGGERS
    for trigger in triggers:
        op.execute(trigger)


def _create_what_came_in() -> None:
    op.create_table(
        "studies",
        sa.Column("study_instance_uid", sa.String(), nullable=False),
        sa.Column("state", _STATE, nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("study_date", sa.String(), nullable=False),
        sa.Column("patient_id_digest", sa.String(), nullable=False),
        sa.Column("is_stat", sa.Boolean(), nullable=False),
        sa.Column("first_arrival_at", _TIME, nullable=False),
        sa.Column("last_arrival_at", _TIME, nullable=False),
        sa.Column("opened_at", _TIME, nullable=False),
        sa.Column("completed_at", _TIME, nullable=True),
        sa.Column("completion_reason", _STATE, nullable=True),
        sa.Column("expected_n_instances", sa.Integer(), nullable=True),
        sa.Column("has_conflict", sa.Boolean(), nullable=False),
        sa.Column("has_non_conformant", sa.Boolean(), nullable=False),
        sa.Column("has_several_patients", sa.Boolean(), nullable=False),
        sa.PrimaryKeyConstraint("study_instance_uid", name="pk_studies"),
    )
    op.create_index("ix_studies_state_last_arrival_at", "studies", ["state", "last_arrival_at"])
    op.create_index("ix_studies_study_date", "studies", ["study_date"])
    op.create_table(
        "series",
        sa.Column("study_instance_uid", sa.String(), nullable=False),
        sa.Column("series_instance_uid", sa.String(), nullable=False),
        sa.Column("modality", sa.String(), nullable=False),
        sa.Column("n_instances", sa.Integer(), nullable=False),
        sa.Column("first_arrival_at", _TIME, nullable=False),
        sa.Column("last_arrival_at", _TIME, nullable=False),
        sa.Column("has_conflict", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"],
            ["studies.study_instance_uid"],
            name="fk_series_study_instance_uid_studies",
        ),
        sa.PrimaryKeyConstraint("study_instance_uid", "series_instance_uid", name="pk_series"),
    )
    op.create_table(
        "instances",
        sa.Column("instance_id", _NUMBER, nullable=False),
        sa.Column("study_instance_uid", sa.String(), nullable=False),
        sa.Column("series_instance_uid", sa.String(), nullable=False),
        sa.Column("sop_instance_uid", sa.String(), nullable=False),
        sa.Column("sop_class_uid", sa.String(), nullable=False),
        sa.Column("transfer_syntax_uid", sa.String(), nullable=False),
        sa.Column("content_digest", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("n_bytes", sa.BigInteger(), nullable=False),
        sa.Column("received_at", _TIME, nullable=False),
        sa.Column("calling_ae_title", sa.String(), nullable=True),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("n_duplicates", sa.Integer(), nullable=False),
        sa.Column("is_conflict", sa.Boolean(), nullable=False),
        sa.Column("is_non_conformant", sa.Boolean(), nullable=False),
        sa.Column("is_own_result", sa.Boolean(), nullable=False),
        sa.Column("quarantine_reason", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["study_instance_uid", "series_instance_uid"],
            ["series.study_instance_uid", "series.series_instance_uid"],
            name="fk_instances_series",
        ),
        sa.PrimaryKeyConstraint("instance_id", name="pk_instances"),
        sa.UniqueConstraint(
            "study_instance_uid",
            "series_instance_uid",
            "sop_instance_uid",
            "content_digest",
            name="uq_instances_identity",
        ),
    )
    op.create_index("ix_instances_content_digest", "instances", ["content_digest"])


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("study_instance_uid", sa.String(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("reason", _STATE, nullable=False),
        sa.Column("state", _STATE, nullable=False),
        sa.Column("is_stat", sa.Boolean(), nullable=False),
        sa.Column("input_digest", sa.String(), nullable=False),
        sa.Column("n_instances", sa.Integer(), nullable=False),
        sa.Column("queued_at", _TIME, nullable=False),
        sa.Column("not_before_at", _TIME, nullable=False),
        sa.Column("rung_at", _TIME, nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("attempts_forgiven", sa.Integer(), nullable=False),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("lease_expires_at", _TIME, nullable=True),
        sa.Column("started_at", _TIME, nullable=True),
        sa.Column("finished_at", _TIME, nullable=True),
        sa.Column("delivered_at", _TIME, nullable=True),
        sa.Column("confirmed_at", _TIME, nullable=True),
        sa.Column("predecessor_run_id", sa.String(), nullable=True),
        sa.Column("superseded_by_run_id", sa.String(), nullable=True),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.Column("pipeline", sa.String(), nullable=True),
        sa.Column("code_version", sa.String(), nullable=True),
        sa.Column("settings_digest", sa.String(), nullable=True),
        sa.Column("host", sa.String(), nullable=True),
        sa.Column("device", sa.String(), nullable=True),
        sa.Column("patient_class", _STATE, nullable=True),
        sa.Column("certainty", sa.Float(), nullable=True),
        sa.Column("not_analysed_reason", sa.String(), nullable=True),
        sa.Column("selected_series_instance_uid", sa.String(), nullable=True),
        sa.Column("evidence", sa.JSON(), nullable=True),
        sa.ForeignKeyConstraint(
            ["predecessor_run_id"], ["runs.run_id"], name="fk_runs_predecessor_run_id_runs"
        ),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"],
            ["studies.study_instance_uid"],
            name="fk_runs_study_instance_uid_studies",
        ),
        sa.ForeignKeyConstraint(
            ["superseded_by_run_id"], ["runs.run_id"], name="fk_runs_superseded_by_run_id_runs"
        ),
        sa.PrimaryKeyConstraint("run_id", name="pk_runs"),
        sa.UniqueConstraint(
            "study_instance_uid", "version", name="uq_runs_study_instance_uid_version"
        ),
    )
    op.create_index("ix_runs_state_is_stat_queued_at", "runs", ["state", "is_stat", "queued_at"])
    op.create_index(
        "uq_runs_active_generation",
        "runs",
        ["study_instance_uid", "generation"],
        unique=True,
        sqlite_where=_ACTIVE_RUN,
        postgresql_where=_ACTIVE_RUN,
    )
    op.create_table(
        "models",
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("task", sa.String(), nullable=False),
        sa.Column("first_used_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_models"),
    )
    op.create_table(
        "run_models",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("provider", sa.String(), nullable=False),
        sa.Column("fallback_reason", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["digest"], ["models.digest"], name="fk_run_models_digest_models"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name="fk_run_models_run_id_runs"),
        sa.PrimaryKeyConstraint("run_id", "digest", name="pk_run_models"),
    )
    op.create_table(
        "slice_results",
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("slice_index", sa.Integer(), nullable=False),
        sa.Column("sop_instance_uid", sa.String(), nullable=False),
        sa.Column("content_digest", sa.String(), nullable=False),
        sa.Column("frame_number", sa.Integer(), nullable=True),
        sa.Column("location_mm", sa.Float(), nullable=False),
        sa.Column("label", sa.String(), nullable=False),
        sa.Column("is_affected", sa.Boolean(), nullable=False),
        sa.Column("probabilities", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name="fk_slice_results_run_id_runs"),
        sa.PrimaryKeyConstraint("run_id", "slice_index", name="pk_slice_results"),
    )
    op.create_table(
        "result_objects",
        sa.Column("sop_instance_uid", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("kind", _STATE, nullable=False),
        sa.Column("sop_class_uid", sa.String(), nullable=False),
        sa.Column("series_instance_uid", sa.String(), nullable=False),
        sa.Column("path", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("n_bytes", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name="fk_result_objects_run_id_runs"),
        sa.PrimaryKeyConstraint("sop_instance_uid", name="pk_result_objects"),
    )
    op.create_index("ix_result_objects_run_id", "result_objects", ["run_id"])


def _create_deliveries() -> None:
    op.create_table(
        "deliveries",
        sa.Column("delivery_id", sa.String(), nullable=False),
        sa.Column("run_id", sa.String(), nullable=False),
        sa.Column("study_instance_uid", sa.String(), nullable=False),
        sa.Column("run_version", sa.Integer(), nullable=False),
        sa.Column("destination", sa.String(), nullable=False),
        sa.Column("state", _STATE, nullable=False),
        sa.Column("is_stat", sa.Boolean(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("n_failures", sa.Integer(), nullable=False),
        sa.Column("pending_since_at", _TIME, nullable=False),
        sa.Column("not_before_at", _TIME, nullable=False),
        sa.Column("rung_at", _TIME, nullable=True),
        sa.Column("lease_owner", sa.String(), nullable=True),
        sa.Column("lease_expires_at", _TIME, nullable=True),
        sa.Column("sent_at", _TIME, nullable=True),
        sa.Column("confirmed_at", _TIME, nullable=True),
        sa.Column("last_detail", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(["run_id"], ["runs.run_id"], name="fk_deliveries_run_id_runs"),
        sa.ForeignKeyConstraint(
            ["study_instance_uid"],
            ["studies.study_instance_uid"],
            name="fk_deliveries_study_instance_uid_studies",
        ),
        sa.PrimaryKeyConstraint("delivery_id", name="pk_deliveries"),
        sa.UniqueConstraint("run_id", "destination", name="uq_deliveries_run_id_destination"),
    )
    op.create_index("ix_deliveries_state_not_before_at", "deliveries", ["state", "not_before_at"])
    op.create_index(
        "ix_deliveries_study_instance_uid_destination",
        "deliveries",
        ["study_instance_uid", "destination"],
    )
    op.create_table(
        "delivery_objects",
        sa.Column("delivery_id", sa.String(), nullable=False),
        sa.Column("sop_instance_uid", sa.String(), nullable=False),
        sa.Column("status", sa.Integer(), nullable=True),
        sa.Column("outcome", sa.String(), nullable=True),
        sa.Column("comment", sa.String(), nullable=True),
        sa.ForeignKeyConstraint(
            ["delivery_id"],
            ["deliveries.delivery_id"],
            name="fk_delivery_objects_delivery_id_deliveries",
        ),
        sa.ForeignKeyConstraint(
            ["sop_instance_uid"],
            ["result_objects.sop_instance_uid"],
            name="fk_delivery_objects_sop_instance_uid_result_objects",
        ),
        sa.PrimaryKeyConstraint("delivery_id", "sop_instance_uid", name="pk_delivery_objects"),
    )


def _create_record() -> None:
    op.create_table(
        "events",
        sa.Column("event_id", _NUMBER, nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("occurred_at", _TIME, nullable=False),
        sa.Column("study_instance_uid", sa.String(), nullable=True),
        sa.Column("run_id", sa.String(), nullable=True),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("sequence", _NUMBER, nullable=True),
        sa.Column("seal", sa.String(), nullable=True),
        sa.Column("chain_hash", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("event_id", name="pk_events"),
        sa.UniqueConstraint("sequence", name="uq_events_sequence"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_events_study_instance_uid_event_id", "events", ["study_instance_uid", "event_id"]
    )
    op.create_table(
        "checkpoints",
        sa.Column("checkpoint_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("n_events", sa.BigInteger(), nullable=False),
        sa.Column("head_hash", sa.String(), nullable=False),
        sa.Column("written_at", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("checkpoint_id", name="pk_checkpoints"),
    )
    op.create_table(
        "audits",
        sa.Column("day", sa.Date(), nullable=False),
        sa.Column("recorded_at", _TIME, nullable=False),
        sa.Column("is_clean", sa.Boolean(), nullable=False),
        sa.Column("content", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("day", name="pk_audits"),
    )
