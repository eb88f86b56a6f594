"""What every SicargaBox process shares: durable tasks, the tariff catalogue, search and the command line."""
