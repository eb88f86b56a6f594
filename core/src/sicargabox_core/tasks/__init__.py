"""Durable tasks: the row in SQL is the task, the message in Redis a hint. Knows nothing of tariff or search."""
