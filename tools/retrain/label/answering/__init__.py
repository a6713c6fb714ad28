"""From a key press to the label on a sample's blob."""
