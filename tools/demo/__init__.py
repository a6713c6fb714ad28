"""The whole system on a laptop, with drawn bananas or your own pictures."""
