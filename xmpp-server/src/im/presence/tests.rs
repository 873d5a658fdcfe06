//! Tests of `presence`.
