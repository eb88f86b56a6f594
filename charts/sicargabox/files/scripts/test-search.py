"""Asks the API for an everyday word until it finds something; exit code 1 when it does not within two minutes."""

import json
import sys
import time
import urllib.error
import urllib.request

address = sys.argv[1] + "/api/v1/search?q=camiseta"
give_up = time.monotonic() + 120
while True:
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            told = json.load(answer)
        if told["results"]:
            print(told["results"][0]["code"], "degraded:", told["degraded"])
            sys.exit(0)
        said = "nothing found"
    except (OSError, urllib.error.URLError) as error:
        said = str(error)
    print(said, flush=True)
    if time.monotonic() > give_up:
        sys.exit(1)
    time.sleep(2)
