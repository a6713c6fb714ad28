"""The words both edge modules share: predictions, the spool, blobs and the hub."""
