"""Who may come in from other machines: keys, invites, the doorkeeper, and tickets for jobs."""
