"""Both search engines in one run: how long they build and answer, what they hold, and beside what.

``python -m benchmarks.search [SECTION …]``. Traffic stays on the loopback interface; Elasticsearch is a private server
that is started for the run and removed after it.
"""
