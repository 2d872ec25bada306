"""Records made readable: the one place that turns what is stored into what a list, a card or a page shows."""
