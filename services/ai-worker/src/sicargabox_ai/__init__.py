"""The worker that proposes bilingual keywords for tariff lines."""
