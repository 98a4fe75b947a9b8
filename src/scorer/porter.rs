//! The Porter stemmer.
