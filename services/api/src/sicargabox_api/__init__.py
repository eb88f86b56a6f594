"""The public search page, the JSON API and the staff pages of SicargaBox."""
