"""Job files for the launchers of clusters, with the user's own command in them."""
