"""F6: ways to raise a proxy's score. None of them ever holds the gold model."""
