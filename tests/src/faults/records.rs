//! Ciphertexts put where they do not belong: another path, kind, version or term. Every one of them must be noticed.

use std::{io, sync::Arc};

use strongroom_server::{
    barrier::{Address, Barrier, BarrierError, Changes, Keyring, View},
    clock::SystemClock,
    crypto::{Key, SystemEntropy},
    engines::kv,
    model::{RequestId, SecretBytes, StoreId, Timestamp},
    policy::store::ROLE,
    storage::{Batch, Store, memory::MemoryStore},
};

use super::dice::Dice;
use crate::figures::Figure;

/// Records to swap among each other.
const RECORDS: u64 = 400;

/// A record, where the engine finds it and where the store keeps it.
struct Placed {
    view: usize,
    address: Address,
    key: Vec<u8>,
    sealed: Vec<u8>,
}

/// Tries `tries` swaps, a tenth of them with a flipped bit on top.
///
/// # Errors
/// The harness itself failed.
pub async fn run(tries: u64, seed: u64) -> io::Result<Vec<Figure>> {
    let mut dice = Dice::new(seed);
    let store = Arc::new(MemoryStore::new());
    let root = Key::random(&SystemEntropy).map_err(io::Error::other)?;
    let id = StoreId([7; 16]);
    let keyring = Keyring::create(&SystemEntropy, Timestamp::from_millis(1)).map_err(io::Error::other)?;
    let stored = keyring.seal(&root, id, &SystemEntropy).map_err(io::Error::other)?;
    commit(&*store, strongroom_server::barrier::KEYRING_KEY.to_vec(), stored).await?;
    let shared: Arc<dyn Store> = Arc::<MemoryStore>::clone(&store);
    let (entropy, clock) = (Arc::new(SystemEntropy), Arc::new(SystemClock));
    let barrier = Barrier::open(shared, id, keyring, entropy, clock, Arc::default(), Arc::default()).await;
    let barrier = barrier.map_err(io::Error::other)?;
    let views = [barrier.view("mount/secret"), barrier.view("mount/other"), barrier.view("sys/policy")];

    let mut placed = Vec::new();
    for number in 0..RECORDS {
        if number % 100 == 99 {
            barrier.rotate(&root, RequestId([1; 16])).await.map_err(io::Error::other)?;
        }
        placed.push(place(&*store, &views, number, &mut dice).await?);
    }
    let mut accepted = 0;
    for attempt in 0..tries {
        let (from, to) = (dice.index(placed.len()), dice.index(placed.len()));
        let (Some(from), Some(to)) = (placed.get(from), placed.get(to)) else { continue };
        let mut moved = from.sealed.clone();
        let flip = attempt % 10 == 0;
        if flip {
            let at = dice.index(moved.len());
            if let Some(byte) = moved.get_mut(at) {
                *byte ^= 1 << dice.below(8);
            }
        }
        if from.key == to.key && !flip {
            continue;
        }
        commit(&*store, to.key.clone(), moved).await?;
        let view = views.get(to.view).ok_or_else(|| io::Error::other("no such view"))?;
        if !matches!(view.get(&to.address).await, Err(BarrierError::Corrupt { .. })) {
            accepted += 1;
        }
        commit(&*store, to.key.clone(), to.sealed.clone()).await?;
    }
    Ok(vec![Figure::never(
        "ciphertexts swapped between paths, versions, terms: accepted",
        accepted,
        "accepted",
        tries,
    )])
}

async fn commit(store: &dyn Store, key: Vec<u8>, value: Vec<u8>) -> io::Result<()> {
    let batch = Batch { puts: vec![(key, value)], ..Batch::default() };
    store.commit(batch).await.map(drop).map_err(io::Error::other)
}

/// Writes a record through the barrier and finds it in the store by what is new there.
async fn place(store: &dyn Store, views: &[View], number: u64, dice: &mut Dice) -> io::Result<Placed> {
    let kinds = [kv::SECRET, kv::VERSION, ROLE];
    let kind = kinds.get(dice.index(kinds.len())).copied().unwrap_or(kv::SECRET);
    let view = dice.index(views.len());
    let folder = format!("f{}", dice.below(5)).into();
    let name = format!("n{}", number / 4).into();
    let address = Address { kind, folder, name, part: number };
    let before = scan(store).await?;
    let content = SecretBytes::from(format!("content {number}"));
    let changes = Changes { puts: vec![(address.clone(), content)], ..Changes::default() };
    let writer = views.get(view).ok_or_else(|| io::Error::other("no such view"))?;
    writer.commit(changes).await.map_err(io::Error::other)?;
    let fresh = scan(store).await?.into_iter().find(|(key, _)| !before.iter().any(|(known, _)| known == key));
    // The first write also brings the digest's record; every later one only its own.
    match fresh {
        Some((key, sealed)) if key.first() == Some(&kind.byte()) => Ok(Placed { view, address, key, sealed }),
        _ => Err(io::Error::other("a written record was not found in the store")),
    }
}

async fn scan(store: &dyn Store) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let page = store.scan(&[], None, 10_000).await.map_err(io::Error::other)?;
    // The barrier's own have keys of one byte.
    let page = page.into_iter().filter(|(key, _)| key.len() > 1);
    Ok(page.map(|(key, record)| (key, record.value)).collect())
}
