"""Id maps, and what is known of items and users."""
