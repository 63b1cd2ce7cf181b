"""The reviews environment: short opinions, each rated by fifteen or more people, and a tokenizer for them."""
