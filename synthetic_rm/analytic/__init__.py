"""F7: experiments without training: curves of analytic and tabular worlds as tables."""
