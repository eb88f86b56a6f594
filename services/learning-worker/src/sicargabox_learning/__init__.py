"""The worker that turns people's choices into suggestions for new keywords."""
