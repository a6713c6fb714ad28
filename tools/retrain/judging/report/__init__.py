"""A judgement as one HTML file that anybody can open, print and mail."""
