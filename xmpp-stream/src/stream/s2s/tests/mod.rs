//! Transcripts and tables for the machines between servers, named after the rows that they show.
