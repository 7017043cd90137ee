"""Networks and losses; class counts and backbones are arguments."""
