"""For the frameworks it is used in. Each module needs the extra of its name; nothing inside imports them."""
