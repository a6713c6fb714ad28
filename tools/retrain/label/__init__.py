"""The labelling page: people answer what the model could not, with one key an image."""
