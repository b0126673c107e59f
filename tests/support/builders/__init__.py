"""Values for unit tests: snapshots, slot states, configurations, webhooks."""
