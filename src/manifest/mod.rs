//! The manifest room.
