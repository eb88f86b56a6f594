"""The search tasks of this worker; each function is registered by ``handles``."""
