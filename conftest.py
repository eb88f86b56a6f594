"""Makes the fixtures of ``tests/servers`` known to every test folder. It defines nothing itself."""

import pytest

# Laws that test modules inherit; without this a failed assertion in them would tell no values.
pytest.register_assert_rewrite("tests.search_laws")

pytest_plugins = ["tests.servers.fixtures"]
