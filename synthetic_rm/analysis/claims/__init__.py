"""The headline claims of the paper (Gao, Schulman and Hilton 2022), each with a statistic that can speak against it."""
