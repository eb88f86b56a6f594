"""What the product takes and gives, measured. One command each (``python -m benchmarks.NAME``), never a timed test.

Each prints the machine, a table of figures with their goals, and a ratio to something anyone can run beside it.
"""
