"""What can be set: flags > environment > YAML file > defaults of the image > defaults."""
