"""The routes of the JSON API, a module per resource. Each validates, calls one application service, and answers."""
