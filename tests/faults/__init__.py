"""What goes wrong in the field, on real processes: each scenario returns an Outcome. For the tests and for a table."""
