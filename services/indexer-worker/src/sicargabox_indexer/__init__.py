"""The worker that builds, updates and audits the search index."""
