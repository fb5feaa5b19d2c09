"""What happened, kept: the ledger, the state machines, the event chain and its readers.

Steps of the journey do not import this package; the daemon and the workers hand them what they
need. Every function takes the database (or an open session) and `now`; there is no module state.

.. code-block:: text

    database.py    one URL: engine, transactions, migrations
    tables.py      one typed class per table
    ledger.py      what came in: studies, series, instances; when a study is complete
    runs.py        making runs: new, late, reprocess, retry; ringing for them
    claims.py      working on runs: claim, heartbeat, fail, expired leases
    results.py     finishing a run in one transaction
    deliveries.py  one row per run and destination: claim, send, confirm, retry, die
    events.py      the closed list of events
    chain.py       sealing and verifying them
    queries.py     status, story, accounting
    nightly.py     the account of a day
"""
