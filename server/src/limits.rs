//! The server's limits in one place, each with its reason. Those both ends know (sizes) are in `strongroom_proto::limits`.

use std::time::Duration;

/// Connections at once: about 60 KiB each with TLS and HTTP/2 buffers, so at most 128 MiB.
pub const CONNECTIONS: usize = 2048;
/// Connections of one address: 64 would do for a node, but a whole cluster may come through one NAT.
pub const CONNECTIONS_PER_IP: usize = 256;
/// Open files that these need, with room for the store, the log and the ops port.
pub const OPEN_FILES: u64 = CONNECTIONS as u64 + 512;
/// A TLS handshake takes two round trips; who needs longer is a slowloris.
pub const HANDSHAKE: Duration = Duration::from_secs(5);
/// From the handshake to the first bytes of HTTP/2.
pub const FIRST_BYTES: Duration = Duration::from_secs(10);
/// Without a byte from the peer; a client with a quiet watch sends pings.
pub const IDLE: Duration = Duration::from_secs(300);
/// Connections end in their time, so that load spreads over servers and renewed certificates are seen.
pub const CONNECTION_AGE: Duration = Duration::from_secs(30 * 60);
/// For the last requests of a connection that is asked to go.
pub const CONNECTION_GRACE: Duration = Duration::from_secs(60);
/// Watches, tails and recursive lists at once: two for each pod of a large cluster's node come from few connections.
pub const STREAMS: usize = 20_000;
/// The same of one principal: an account may have pods on every node.
pub const STREAMS_SHARE: usize = STREAMS / 4;
/// The same of one address: all nodes of a cluster may come through one NAT.
pub const STREAMS_OF_ADDRESS: usize = STREAMS / 2;
/// Streams that anybody may open (health watches, reflection) at once.
pub const PUBLIC_STREAMS: usize = 64;
/// The same of one address.
pub const PUBLIC_STREAMS_OF_ADDRESS: usize = PUBLIC_STREAMS / 2;
/// Requests to seal the server at once, which do not wait for a place among all others.
pub const SEALS: usize = 8;
/// Attempts to init or unseal at once; a person makes one at a time.
pub const UNSEAL_ATTEMPTS: usize = 4;
/// The same of one address.
pub const UNSEAL_ATTEMPTS_OF_ADDRESS: usize = UNSEAL_ATTEMPTS / 2;
/// Largest message of a service that takes neither secrets nor policies.
pub const SMALL_REQUEST_BYTES: usize = 64 << 10;
/// Largest message that names paths: 256 of 512 bytes, with their framing.
pub const PATHS_REQUEST_BYTES: usize = 192 << 10;
/// Messages of known callers that come in parts, all together: 64 of the largest.
pub const INTAKE_BYTES: usize = 64 << 20;
/// The same of one caller.
pub const INTAKE_SHARE: usize = INTAKE_BYTES / 2;
/// The same of callers without a good token: a login is a few hundred bytes and comes at once.
pub const STRANGERS_INTAKE_BYTES: usize = 4 << 20;
/// The same of one address.
pub const STRANGERS_INTAKE_SHARE: usize = STRANGERS_INTAKE_BYTES / 2;
/// Until the message of a request is there to its end; 1 MiB in that time are 55 KB/s.
pub const RECEIVE: Duration = Duration::from_secs(20);
/// Of requests, streams and the like, one caller may have all but one part of so many: the others find a place even
/// beside somebody who takes all they get.
pub const SHARES: usize = 4;
/// Answers that are not sent yet, all together: 64 of the largest secret. Their room is free again when the last byte is
/// written, or the connection given up.
pub const OUTBOUND_BYTES: usize = 64 << 20;
/// The same of one caller.
pub const OUTBOUND_SHARE: usize = OUTBOUND_BYTES / 2;
/// What of an answer is not counted there: it comes with the request's slot or the stream's, of which there are few.
pub const SMALL_ANSWER_BYTES: usize = 4 << 10;
/// So this is the most that answers which nobody reads can take, for [`SEND`].
pub const UNSENT_BYTES: usize = OUTBOUND_BYTES + (IN_FLIGHT + STREAMS) * SMALL_ANSWER_BYTES;
const _: () =
    assert!(UNSENT_BYTES < 160 << 20, "answers that nobody reads leave room for the rest in 512 MiB");
/// Longest that an answer waits for its peer to take it; 4 MiB in that time are 140 KB/s.
pub const SEND: Duration = Duration::from_secs(30);
/// Streams of one connection: clients keep 64 in flight; h2's own default is no limit.
pub const STREAMS_PER_CONNECTION: u32 = 100;
/// Resets a client may have pending before it is cut off (CVE-2023-44487).
pub const PENDING_RESETS: usize = 20;
/// Header list of one request: a session token has 4 KiB at most; the rest is room for what clients and proxies add.
pub const HEADER_BYTES: u32 = 16 << 10;
/// Reads of one principal in a second, in the long run. A record has 400 bytes, so this is 35 GB a day at most; an
/// application that reads more often than that should watch instead, or have the limit raised.
pub const READS_PER_SECOND: u32 = 1000;
/// The same of writes, which leave two records and grow the store as well.
pub const WRITES_PER_SECOND: u32 = 200;
/// The same of what is about the server: people and their scripts.
pub const ADMIN_PER_SECOND: u32 = 20;
/// Logins of one address in a second: a whole cluster may come through one NAT.
pub const LOGINS_PER_SECOND: u32 = 50;
/// One hash of the audit log in so long a time: enough to look for a value, and a day for all PINs of four digits.
pub const HASH_EVERY: Duration = Duration::from_secs(10);
/// So much of these can be used at once.
pub const QUOTA_BURST: Duration = Duration::from_secs(60);
/// Callers whose use is remembered, each for what it asks: about 2 MiB. Those beyond share one quota.
pub const QUOTA_CALLERS: usize = 16_384;
/// Requests in progress at once; more wait for [`QUEUE_WAIT`] at most, because a longer queue only makes all of them late.
pub const IN_FLIGHT: usize = 512;
/// The most that [`IN_FLIGHT`] can be set to: the audit log carries no more intents along than this and half of it.
pub const MOST_IN_FLIGHT: u64 = 1024;
/// Records that may wait for the audit log at a time. Each request waits for one of its records at most, in a slot: streams
/// have one of these while they begin. The queue in `audit/queue.rs` is twice as long: refusals of who is not let in have no
/// slot, but are sampled.
pub const RECORDS_AT_ONCE: usize = MOST_IN_FLIGHT as usize + SEALS + UNSEAL_ATTEMPTS;
/// Longest wait for a slot before a request is shed.
pub const QUEUE_WAIT: Duration = Duration::from_millis(250);
/// Deadline of a request that brings none, and the longest it may bring; watches are apart.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(30);
/// How long a stop waits for requests in progress; below the 30 s Kubernetes gives a pod.
pub const DRAIN: Duration = Duration::from_secs(20);
/// How often certificate files are looked at.
pub const CERTIFICATE_CHECK: Duration = Duration::from_secs(10);
/// Largest certificate or key file: real chains are below 20 KiB.
pub const PEM_BYTES: u64 = 1 << 20;
/// Largest configuration file.
pub const CONFIG_BYTES: u64 = 1 << 20;
/// Pause after a failed accept (no file descriptors left), so that the loop does not spin.
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Finished handshakes waiting to be served.
pub const ACCEPT_QUEUE: usize = 64;
