"""Reading SavedModels without running them."""
