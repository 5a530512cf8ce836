"""Pages for people: HTML without anything from elsewhere, and pictures that can be read on a phone."""
