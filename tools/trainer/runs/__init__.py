"""Trainings and exports as processes of their own, and the answers of what they made."""
