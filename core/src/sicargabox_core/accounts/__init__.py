"""Who may do what: users, sessions, API tokens, and the audit trail."""
