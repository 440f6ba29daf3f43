//! The limits that both ends know, each with its reason. `server/src/limits.rs` has the server's own (connections, time-outs).

/// Longest path in bytes: it fits on one line of a log and suits etcd's keys.
pub const PATH_BYTES: usize = 512;
/// Most segments of a path, the mount included.
pub const PATH_SEGMENTS: usize = 16;
/// Longest segment in bytes: a Kubernetes name has at most 63 or 253 bytes, but 253 would leave no room for a path.
pub const SEGMENT_BYTES: usize = 128;
/// Longest key of a secret; a key becomes a file name, and NAME_MAX is 255.
pub const KEY_BYTES: usize = 253;
/// Most keys in one secret.
pub const SECRET_KEYS: usize = 1024;
/// Most bytes of all keys and values of one version: 1 MiB, as in Kubernetes.
pub const SECRET_BYTES: usize = 1 << 20;
/// Largest request message: one secret with its framing.
pub const REQUEST_BYTES: usize = SECRET_BYTES + (64 << 10);
/// Largest response message: one secret, or one page of a list.
pub const RESPONSE_BYTES: usize = 4 << 20;
/// Most names on one page of a list.
pub const PAGE_SIZE: u32 = 1000;
/// Most paths in one watch.
pub const WATCH_PATHS: usize = 256;
/// Custom metadata: pairs, bytes of a key, bytes of a value (as in Vault).
pub const CUSTOM_PAIRS: usize = 64;
/// See [`CUSTOM_PAIRS`].
pub const CUSTOM_KEY_BYTES: usize = 128;
/// See [`CUSTOM_PAIRS`].
pub const CUSTOM_VALUE_BYTES: usize = 512;
/// Most versions a secret may keep.
pub const MAX_VERSIONS: u32 = 1000;
/// How many versions are kept by default (as in Vault).
pub const DEFAULT_VERSIONS: u32 = 10;
/// Longest lifetime of a version: ten years, in seconds.
pub const TTL_SECONDS: u64 = 10 * 366 * 24 * 3600;
/// Longest operation id, in bytes.
pub const OPERATION_ID_BYTES: usize = 64;
/// Shortest and longest password, in bytes (NIST SP 800-63B asks for 8 and at least 64).
pub const PASSWORD_BYTES: std::ops::RangeInclusive<usize> = 12..=1024;
/// Longest YAML text of one `apply`.
pub const POLICY_BYTES: usize = 900 << 10;
/// Most lines an audit query returns.
pub const AUDIT_LINES: u32 = 100_000;
/// Most items of one call to the engine transit: the answer is longer than the request by at most 140 bytes each.
pub const TRANSIT_ITEMS: usize = 1000;
