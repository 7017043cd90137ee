"""Arrays in, arrays out: knows no dataset, no network, no step."""
