"""Models compared on what they did not see: held-out counts, leave-one-out."""
