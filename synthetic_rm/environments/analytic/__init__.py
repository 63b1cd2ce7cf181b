"""F4: worlds without networks, whose curves follow from formulas. Nothing in them is trained."""
