"""The edge module that answers cameras and flags the images it is unsure of."""
