"""Lists of labels with times in long videos: official ones, and those that label tools export."""
