//! Scripts that parse, and mistakes with their places.
