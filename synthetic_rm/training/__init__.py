"""F5: supervised training of language models and reward models, in jitted chunks, mapped over seeds."""
