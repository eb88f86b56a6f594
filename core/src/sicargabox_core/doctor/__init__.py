"""`sicargabox doctor`: looks at everything the product needs and says what is wrong and how to mend it.

It changes nothing and starts nothing. `findings` says what a finding is; `machine`, `sql`, `redis`, `index` look;
`diagnosis` asks them all, so that one that fails keeps no other from being asked.
"""
