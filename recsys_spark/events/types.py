"""The event types that the house knows, by their code in arrays."""

EVENT_TYPES = ("other", "view", "click", "add_to_cart", "purchase", "search")
"""Position is code; a type that is not named here is `other`."""
