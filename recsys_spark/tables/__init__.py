"""Tables: names, columns and keys as data; committed versions that are published whole."""
