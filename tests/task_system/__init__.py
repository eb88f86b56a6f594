"""Real workers, schedulers and servers for the laws of durable tasks, with tasks made only for them."""
