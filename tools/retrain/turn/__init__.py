"""One turn of the loop: from labelled samples to a trained and exported model."""
