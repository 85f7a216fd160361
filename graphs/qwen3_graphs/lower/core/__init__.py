"""What every target shares: the walk over a semantic graph, the steps, the writer and the weights."""
