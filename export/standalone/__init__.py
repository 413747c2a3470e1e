"""Code that runs where neither zoo nor Keras can be imported."""
