"""What happened, kept: the ledger, the state machines, the event chain and its readers.

Steps of the journey do not import this package; the daemon and the workers hand them what they
need. Every function takes the database (or an open session) and `now`; there is no module state.

.. code-block:: text

    database       one URL: engine, transactions, migrations
    tables         one typed class per table
    registration   one instance: new, duplicate, conflict; does it open its study?
    ledger         what came in, and when a study is complete
    runs           making runs: new, late, reprocess, retry; ringing for them
    claims         working on runs: claim, heartbeat, fail, expired leases
    results        finishing a run in one transaction
    deliveries     one row per run and destination: send, confirm, retry, die
    delivery_sweep ringing for deliveries, expired leases, reviving
    events         the closed list of events
    chain          sealing and verifying them
    queries        where studies stand
    story          why: everything about one study, from the database alone
    accounting     the invariant over all rows
    nightly        the account of a day
"""
