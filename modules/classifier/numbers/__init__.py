"""What the classifier did and saw, in numbers, and the thresholds it flags by."""
