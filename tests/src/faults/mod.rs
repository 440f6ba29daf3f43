//! What must never happen, tried many times against the real thing. Each module gives figures for one table; a run is
//! replayed by its seed.

pub mod audit;
pub mod between;
pub mod clock;
pub mod coverage;
pub mod damage;
pub mod dice;
pub mod driver;
pub mod forgeries;
pub mod greedy;
pub mod hostile;
pub mod intents;
pub mod kill;
pub mod leases;
pub mod log;
pub mod policy;
pub mod power;
pub mod records;

/// How many tries.
#[derive(Clone, Copy)]
pub struct Size {
    /// Rounds of kill -9.
    pub kills: u64,
    /// Rounds of kill -9 between two commits.
    pub between: u64,
    /// Rounds of kill -9 amid issuing and revoking.
    pub lease_kills: u64,
    /// Database users issued and revoked at once.
    pub users: usize,
    /// Secrets in the store while it is killed.
    pub records: u64,
    /// Swapped ciphertexts.
    pub swaps: u64,
    /// Random policy questions.
    pub questions: u64,
    /// Changed audit logs.
    pub tampers: u64,
    pub cuts: u64,
    /// Connections that say nothing.
    pub silent: u64,
    /// Kills of the driver.
    pub driver_kills: u64,
    /// Damaged stores.
    pub damage: damage::Tries,
}

/// At every merge.
pub const MERGE: Size = Size {
    kills: 40,
    between: 20,
    lease_kills: 15,
    users: 1000,
    records: 100_000,
    swaps: 100_000,
    questions: 1_000_000,
    tampers: 5000,
    cuts: 60,
    silent: 10_000,
    driver_kills: 100,
    damage: damage::Tries { flips: 60, pages: 10, cuts: 10, snapshots: 5 },
};
/// Before a release.
pub const LONG: Size = Size {
    kills: 200,
    between: 200,
    lease_kills: 50,
    questions: 10_000_000,
    cuts: 1000,
    driver_kills: 500,
    damage: damage::Tries { flips: 2000, pages: 200, cuts: 100, snapshots: 50 },
    ..MERGE
};
