"""Tables as files: parsing CSV, and what cells say. It knows neither data sets nor models."""
