"""The lists and pages of the staff, one module per thing they are about."""
