"""The tariff tree, its keywords and what people chose."""
