//! The row room.
