//! kv: versioned secrets. Stub.
