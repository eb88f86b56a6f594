"""The keyword tasks of this worker; each function is registered by ``handles``."""
