"""How far the labelling is, how much people agree, and which labels are likely mistakes."""
