"""Finding the tariff line: what the words mean, engines that fetch, one ranker that orders and explains."""
