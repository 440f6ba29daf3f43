//! The driver's limits in one place, each with its reason. Those of a volume's description (entries, files, bytes) are in
//! `strongroom_client::volume`.

use std::time::Duration;

/// Longest volume id. The specification allows 128 bytes; some orchestrators use more.
pub const VOLUME_ID_BYTES: usize = 256;
/// Longest target path: PATH_MAX, less what is appended to it.
pub const TARGET_BYTES: usize = 3840;
/// Volumes of one node; kubelets stop at some hundred pods.
pub const VOLUMES: usize = 4096;
/// Namespaces that are told apart in a metric: a node's pods come from fewer, and a scrape stays small.
pub const NAMESPACES: usize = 50;
/// Pods that are told apart in a metric: kubelets have 110 unless told otherwise, and every scrape has a line for each, as those
/// of the kubelet itself have many.
pub const PODS: usize = 256;
/// What the secrets of a node take at most unless the operator says otherwise. They count for the driver, which the manifest
/// gives 256 MiB: with [`ROTATION_BYTES`] on top of it there are 100 MiB left for the driver itself.
pub const NODE_MIB: u64 = 128;
/// The same of a pod: four of the largest volumes.
pub const POD_BYTES: u64 = 16 << 20;
/// What new content may take beside the old one, beyond these limits and all volumes together: the old one goes after
/// [`SWEEP_AFTER`].
pub const ROTATION_BYTES: u64 = 16 << 20;
/// The longest pause between attempts to write what does not fit: what is in the way are files that a pod keeps open.
pub const LONGEST_WRITE_PAUSE: Duration = Duration::from_secs(120);
/// Size of a volume's tmpfs: two generations of 4 MiB stand beside each other during a swap, and small files take a page.
/// A limit, not a reservation.
pub const TMPFS_BYTES: u64 = 16 << 20;
/// Files, folders and links of a volume's tmpfs: two generations of 256 files, each at most 8 folders deep, and links.
pub const TMPFS_INODES: u64 = 8192;
/// Entries looked at in one folder of a volume before the driver gives up: more than the tmpfs can hold.
pub const FOLDER_ENTRIES: usize = 16_384;
/// Depth of folders in a volume: a generation, and 8 segments of a file's name.
pub const FOLDER_DEPTH: usize = 12;
/// Largest message of the kubelet: a pod's attributes are within an object of 1.5 MiB.
pub const REQUEST_BYTES: usize = 2 << 20;
/// Headers of one request on a Unix socket, packed and unpacked: what hyper's server takes by default. A kubelet sends some
/// hundred bytes.
pub const HEADER_BYTES: usize = 16 << 10;
/// What is read from a Unix socket at once.
pub const READ_BYTES: usize = 8 << 10;
/// Largest answer to the Secrets Store CSI driver; what that driver takes by default.
pub const PROVIDER_RESPONSE_BYTES: usize = 4 << 20;
/// Longest projected token that the server accepts.
pub const TOKEN_BYTES: usize = 8 << 10;
/// Largest state file.
pub const STATE_BYTES: u64 = 64 << 10;
/// How often the driver asks itself over its socket, and how long the answer may take: a node that is busy is not ill, and the
/// manifest forgives five bad answers.
pub const PROBE_EVERY: Duration = Duration::from_secs(10);
/// See [`PROBE_EVERY`].
pub const PROBE: Duration = Duration::from_secs(5);
/// A kubelet finds a new socket within a second and registers it at once; after this long something is wrong.
pub const REGISTRATION: Duration = Duration::from_secs(30);
/// How long a first publish waits for a server that cannot be reached. The kubelet gives a call 120 s, and after a
/// failed one may take two more minutes to try again.
pub const PATIENCE: Duration = Duration::from_secs(100);
/// So long before the end of a caller's patience it is told that the server cannot be reached: later, it would hear nothing
/// and the pod's events would not say why.
pub const LAST_WORD: Duration = Duration::from_secs(3);
/// The longest a single request to the server may take within that time.
pub const REQUEST: Duration = Duration::from_secs(10);
/// The longest that connecting may take, from the lookup of the name to the first word of HTTP/2: so a server that was silent
/// is found again within this time.
pub const CONNECT: Duration = Duration::from_secs(5);
/// The longest of one attempt to log in, or to read all that a volume needs: three requests in a row. Whoever takes longer
/// makes room for others.
pub const ATTEMPT: Duration = Duration::from_secs(30);
/// How long a watch may take to stand before a publish reads without it.
pub const WATCH_START: Duration = Duration::from_secs(3);
/// Publishes that talk to the server at once, and as many refreshes, so that a node full of pods does not come back all at
/// once. Neither waits for the other: a pod that starts does not stand behind volumes that are mounted.
pub const FETCHES: usize = 16;
/// First and longest pause between two attempts; each is drawn from zero to its bound.
pub const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// See [`FIRST_PAUSE`].
pub const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// After a gap in the watch, volumes read again within this time, each at its own moment.
pub const RESYNC_SPREAD: Duration = Duration::from_secs(2);
/// How long the files of the last generation stay, for a reader that is on its way to one of them.
pub const SWEEP_AFTER: Duration = Duration::from_secs(5);
/// How long the logout of a session may take after its volume is gone.
pub const LOGOUT: Duration = Duration::from_secs(5);
/// Between two renewals of what was issued, however short its life is, and after one that failed; engines give at least five
/// seconds.
pub const RENEWAL_PAUSE: Duration = Duration::from_secs(1);
/// After a refusal of what was issued: it has an end, and until then a right may be back.
pub const REFUSED_RENEWAL_PAUSE: Duration = Duration::from_secs(30);
/// How long a stop waits for calls in progress; below the 30 s that Kubernetes gives a pod.
pub const DRAIN: Duration = Duration::from_secs(10);
/// A volume that has had no contact with the server for so long logs in again with the next token.
pub const NEW_LOGIN_AFTER: Duration = Duration::from_secs(45);
/// A refusal of a mounted volume is asked about again after a pause that doubles from the first to the longest: rights that
/// are back count within it, and until then each attempt is two records of the audit log.
pub const FIRST_REFUSAL_PAUSE: Duration = Duration::from_secs(60);
/// See [`FIRST_REFUSAL_PAUSE`].
pub const LONGEST_REFUSAL_PAUSE: Duration = Duration::from_secs(600);
/// A session that ends for good within this time is replaced when a token is at hand: longer than two republishes.
pub const SESSION_REMAINDER: Duration = Duration::from_secs(240);
/// For how long a pod's content may be outdated before an event says so: a server that is started again is no news.
pub const STALE_BEFORE_EVENT: Duration = Duration::from_secs(60);
/// What is said in the same words is an event again after this time; the cluster forgets events after an hour.
pub const EVENT_AGAIN: Duration = Duration::from_secs(600);
/// After this time an event that is not repeated is forgotten here, too.
pub const EVENT_FORGOTTEN: Duration = Duration::from_secs(3600);
/// How many events the driver remembers: several for each of the pods of a node.
pub const EVENTS_KNOWN: usize = 1024;
/// Events of one node at once, and the time between two beyond these: an outage concerns all pods of all nodes, and the API
/// server is not to feel it.
pub const EVENTS_AT_ONCE: u32 = 25;
/// See [`EVENTS_AT_ONCE`].
pub const EVENT_EVERY: Duration = Duration::from_secs(10);
/// Events that wait to be written while the API server is slow.
pub const EVENTS_WAITING: usize = 256;
/// How long the API server may take for one.
pub const EVENT: Duration = Duration::from_secs(5);
/// The longest message of an event; the API server takes 1 KiB.
pub const EVENT_BYTES: usize = 1000;
/// What of a pod's name is in the name of an event, which the API server lets have 253 bytes.
pub const EVENT_NAME_BYTES: usize = 200;
