"""How a challenger becomes champion: gates, decisions, and the record of them."""
