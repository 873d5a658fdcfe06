//! A session that waits for its client, and how that ends.
