//! The engine room.

pub mod prompt;
pub mod tokenizer;
