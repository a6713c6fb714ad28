"""From the local store to the cloud, when and as fast as it may be."""
