//! The calling side of a stream.
