//! The engine over a real barrier and a store in memory.
