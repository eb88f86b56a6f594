"""Makes the fixtures of ``tests/servers`` known to every test folder. It defines nothing itself."""

pytest_plugins = ["tests.servers.fixtures"]
