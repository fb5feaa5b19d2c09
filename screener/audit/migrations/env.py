"""Run migrations over the connection that `Database.upgrade` opened, inside its transaction."""

from alembic import context

from screener.audit.tables import Run

connection = context.config.attributes["connection"]
if connection is None:
    raise RuntimeError("migrations run through Database.upgrade, which opens the connection")
context.configure(connection=connection, target_metadata=Run.metadata, compare_type=True)
with context.begin_transaction():
    context.run_migrations()
