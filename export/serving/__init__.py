"""An HTTP server for SavedModels, with a page to try them: `zoo serve`. README.md says what it answers."""
