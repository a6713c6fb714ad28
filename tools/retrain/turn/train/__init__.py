"""The second and third step of a turn: a trained iteration, and its export."""
