"""The rows of an index: ids, attributes, segments, filters."""
