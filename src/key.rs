//! The key room.
