"""Real, private servers for tests: each on a free port, in its own folder, gone when the test run ends."""
