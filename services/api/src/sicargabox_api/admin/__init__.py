"""The staff pages: a process of its own, since rendering their lists blocks an event loop (API p50 2.4 → 40 ms)."""
