//! The scorer room.
