//! Node ports: one bitmap in the store, in upstream's form and place (`RangeAllocation`).

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    ops::RangeInclusive,
    sync::Arc,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use rand::Rng;
use serde_json::{Value, json};
use thiserror::Error;
use troupe_api::meta::Revision;
use troupe_api_server::store::{KeyValue, Store, StoreError, keys};

use super::needs::{PortNeed, PortPlace};

/// Lost races after which allocation gives up.
const MAX_TRIES: usize = 64;

/// Why node ports were not taken.
#[derive(Debug, Error)]
pub enum PortError {
    #[error("{why}")]
    Refused { field: Option<String>, port: u16, why: String },
    #[error("range is full")]
    Full,
    #[error("the node port range changed too often meanwhile")]
    Contention,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The ports in use, one bit each, the first port of the range at bit 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortMap {
    range: RangeInclusive<u16>,
    bits: Vec<bool>,
}

impl PortMap {
    pub fn new(range: RangeInclusive<u16>) -> Self {
        PortMap { bits: vec![false; range.clone().count()], range }
    }

    fn bit(&mut self, port: u16) -> Option<&mut bool> {
        if !self.range.contains(&port) {
            return None;
        }
        self.bits.get_mut(usize::from(port - self.range.start()))
    }

    /// Marks a port; false where it is marked already or lies outside.
    pub fn take(&mut self, port: u16) -> bool {
        self.bit(port).is_some_and(|bit| !std::mem::replace(bit, true))
    }

    /// The marked ports.
    fn taken(&self) -> impl Iterator<Item = u16> {
        self.range.clone().zip(&self.bits).filter(|(_, taken)| **taken).map(|(port, _)| port)
    }

    pub fn release(&mut self, port: u16) {
        if let Some(bit) = self.bit(port) {
            *bit = false;
        }
    }

    /// Marks any free port, from the upper part first: people choose ports in the lower one.
    fn take_any(&mut self) -> Option<u16> {
        const MIN: usize = 16;
        const MAX: usize = 128;
        let reserved = if self.bits.len() < MIN { 0 } else { (self.bits.len() / 32).clamp(MIN, MAX) };
        let start = rand::rng().random_range(reserved..self.bits.len().max(reserved + 1));
        let order = (start..self.bits.len()).chain(reserved..start.min(self.bits.len())).chain(0..reserved);
        let free = order.into_iter().find(|offset| !self.bits[*offset])?;
        self.bits[free] = true;
        Some(self.range.start() + u16::try_from(free).ok()?)
    }

    fn span(&self) -> String {
        format!("{}-{}", self.range.start(), self.range.end())
    }

    /// The stored form: the bitmap is a big-endian number whose bit 0 is the first port.
    pub fn encode(&self) -> Bytes {
        let mut bytes = vec![0_u8; self.bits.len().div_ceil(8)];
        let last = bytes.len();
        for (at, _) in self.bits.iter().enumerate().filter(|(_, bit)| **bit) {
            bytes[last - 1 - at / 8] |= 1 << (at % 8);
        }
        let data = BASE64_STANDARD.encode(bytes);
        let object = json!({"kind": "RangeAllocation", "apiVersion": "v1", "metadata": {}, "range": self.span(), "data": data});
        object.to_string().into()
    }

    /// Whether a stored form is one of this range.
    fn is_of(value: &[u8], range: &RangeInclusive<u16>) -> bool {
        let span = format!("{}-{}", range.start(), range.end());
        serde_json::from_slice::<Value>(value).is_ok_and(|object| object["range"] == span.as_str())
    }

    /// Reads the stored form; one of another range, or damaged, counts as empty (repair marks what is in use).
    pub fn decode(value: &[u8], range: RangeInclusive<u16>) -> Self {
        let mut map = PortMap::new(range);
        let Ok(object) = serde_json::from_slice::<Value>(value) else { return map };
        if object["range"] != map.span().as_str() {
            return map;
        }
        let bytes = BASE64_STANDARD.decode(object["data"].as_str().unwrap_or_default()).unwrap_or_default();
        for (at, byte) in bytes.iter().rev().enumerate() {
            for bit in (0..8).filter(|bit| byte & (1 << bit) != 0) {
                if let Some(slot) = map.bits.get_mut(at * 8 + bit) {
                    *slot = true;
                }
            }
        }
        map
    }
}

fn range_key() -> Bytes {
    format!("{}ranges/servicenodeports", keys::ROOT).into()
}

fn take_all(map: &mut PortMap, needs: &[PortNeed]) -> Result<Vec<u16>, PortError> {
    needs.iter().map(|need| take_one(map, need)).collect()
}

fn take_one(map: &mut PortMap, need: &PortNeed) -> Result<u16, PortError> {
    let Some(port) = need.requested else { return map.take_any().ok_or(PortError::Full) };
    let field = match &need.place {
        PortPlace::Ports(places) => places.first().map(|place| format!("spec.ports[{place}].nodePort")),
        PortPlace::HealthCheck => None,
    };
    let refused = |why: String| PortError::Refused { field: field.clone(), port, why };
    if !map.range.contains(&port) {
        let span = map.span();
        return Err(refused(format!("provided port is not in the valid range. The range of valid ports is {span}")));
    }
    if !map.take(port) {
        return Err(refused("provided port is already allocated".into()));
    }
    Ok(port)
}

/// Takes and releases node ports.
pub struct PortAllocator {
    range: RangeInclusive<u16>,
    store: Arc<dyn Store>,
    /// Held while ports are taken or released.
    turn: tokio::sync::Mutex<()>,
}

impl PortAllocator {
    pub fn new(range: RangeInclusive<u16>, store: Arc<dyn Store>) -> Self {
        PortAllocator { range, store, turn: tokio::sync::Mutex::default() }
    }

    pub fn range(&self) -> &RangeInclusive<u16> {
        &self.range
    }

    /// Takes node ports, all or none.
    pub async fn take(&self, needs: &[PortNeed], dry_run: bool) -> Result<Vec<u16>, PortError> {
        if needs.is_empty() {
            return Ok(Vec::new());
        }
        self.change(dry_run, |map| take_all(map, needs)).await
    }

    pub async fn release(&self, ports: &[u16]) -> Result<(), PortError> {
        self.change(false, |map| {
            ports.iter().for_each(|port| map.release(*port));
            Ok(())
        })
        .await
    }

    /// Changes the bitmap by compare-and-swap. `change` may run several times.
    async fn change<T>(&self, dry_run: bool, change: impl Fn(&mut PortMap) -> Result<T, PortError>) -> Result<T, PortError> {
        // This server's writes do not race one another, only those of other servers.
        let _turn = self.turn.lock().await;
        let (mut held, _) = self.store.get(&range_key(), None).await?;
        for _ in 0..MAX_TRIES {
            let before = self.port_map(held.as_ref());
            let mut map = before.clone();
            let result = change(&mut map)?;
            if dry_run || map == before {
                return Ok(result);
            }
            match self.write(&map, held.as_ref()).await {
                Ok(_) => return Ok(result),
                Err(StoreError::Conflict { current }) => held = current,
                Err(error) => return Err(error.into()),
            }
        }
        Err(PortError::Contention)
    }

    fn port_map(&self, held: Option<&KeyValue>) -> PortMap {
        let range = self.range.clone();
        held.map_or_else(|| PortMap::new(range.clone()), |kv| PortMap::decode(&kv.value, range.clone()))
    }

    async fn write(&self, map: &PortMap, held: Option<&KeyValue>) -> Result<Revision, StoreError> {
        match held {
            None => self.store.create(range_key(), map.encode(), None).await,
            Some(kv) => self.store.update(range_key(), map.encode(), kv.mod_revision, None).await,
        }
    }

    /// The bitmap as it stands, for [`PortAllocator::mend`].
    pub async fn now(&self) -> Result<Option<KeyValue>, StoreError> {
        Ok(self.store.get(&range_key(), None).await?.0)
    }

    /// Marks the ports `in_use` and clears those that `suspects` has seen unused for long enough.
    /// `seen` is the bitmap from before `in_use` was listed: where it has changed since, nothing is cleared.
    pub async fn mend(&self, seen: Option<KeyValue>, in_use: &HashSet<u16>, suspects: &Suspects) -> Result<Mended, PortError> {
        let map = self.port_map(seen.as_ref());
        let (next, leaked) = suspects.look(&map, in_use);
        // One that is marked already is fine.
        let marked: BTreeSet<u16> = self.change(false, |map| Ok(in_use.iter().copied().filter(|port| map.take(*port)).collect())).await?;
        // A Service that came meanwhile has marked its own, one of before the bitmap was that of another range.
        let before: HashSet<u16> = map.taken().collect();
        let is_ours = seen.as_ref().is_none_or(|held| PortMap::is_of(&held.value, &self.range));
        let unmarked = marked.into_iter().filter(|port| is_ours && !before.contains(port)).collect();
        if leaked.is_empty() {
            return Ok(Mended { suspects: next, unmarked });
        }
        let mut mended = map.clone();
        leaked.iter().for_each(|port| mended.release(*port));
        match self.write(&mended, seen.as_ref()).await {
            Ok(_) => tracing::info!(ports = ?leaked, "released node ports that no service holds"),
            Err(StoreError::Conflict { .. }) => return Ok(Mended { suspects: suspects.clone(), unmarked }),
            Err(error) => return Err(error.into()),
        }
        Ok(Mended { suspects: next, unmarked })
    }
}

/// What a round of repair did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mended {
    /// For the next round.
    pub suspects: Suspects,
    /// Ports in use that were not marked, and are now.
    pub unmarked: BTreeSet<u16>,
}

/// Ports that are marked and that no Service holds, and in how many rounds of repair. One round may see a create in flight.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Suspects(BTreeMap<u16, u32>);

impl Suspects {
    /// Rounds after which a port is cleared.
    const ROUNDS: u32 = 3;

    /// The suspects after another round, and the ports to clear.
    fn look(&self, map: &PortMap, in_use: &HashSet<u16>) -> (Suspects, Vec<u16>) {
        let unused = map.taken().filter(|port| !in_use.contains(port));
        let seen: BTreeMap<u16, u32> = unused.map(|port| (port, self.0.get(&port).copied().unwrap_or(0) + 1)).collect();
        let (leaked, next) = seen.into_iter().partition::<BTreeMap<_, _>, _>(|(_, rounds)| *rounds >= Self::ROUNDS);
        (Suspects(next), leaked.into_keys().collect())
    }
}

#[cfg(test)]
mod tests {
    use troupe_api_server::store::memory::MemoryStore;

    use super::*;

    #[test]
    fn the_bitmap_survives_the_round_trip() {
        let mut map = PortMap::new(30000..=32767);
        assert!(map.take(30000) && map.take(31234) && map.take(32767));
        assert!(!map.take(31234), "is taken");
        assert!(!map.take(80), "lies outside");
        assert_eq!(PortMap::decode(&map.encode(), 30000..=32767), map);
        assert_eq!(PortMap::decode(&map.encode(), 30000..=30100), PortMap::new(30000..=30100));
    }

    #[test]
    fn a_port_that_nobody_holds_is_cleared_in_the_third_round_and_not_if_it_was_in_use_meanwhile() {
        let mut map = PortMap::new(30000..=30009);
        assert!(map.take(30001) && map.take(30002) && map.take(30003));
        let in_use = HashSet::from([30001]);
        let (once, none) = Suspects::default().look(&map, &in_use);
        assert!(none.is_empty());
        let (twice, none) = once.look(&map, &in_use);
        assert!(none.is_empty());
        assert_eq!(twice.look(&map, &in_use), (Suspects::default(), vec![30002, 30003]));
        let (reset, _) = twice.look(&map, &HashSet::from([30001, 30002, 30003]));
        assert_eq!(reset, Suspects::default());
    }

    #[tokio::test]
    async fn ports_in_use_that_were_not_marked_are_marked_and_named_unless_the_range_is_another() {
        let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
        let allocator = PortAllocator::new(30000..=30009, store.clone());
        let in_use = HashSet::from([30001, 30002, 80]);
        let nothing = Suspects::default();
        let mended = allocator.mend(allocator.now().await.expect("the store answers"), &in_use, &nothing).await.expect("mended");
        assert_eq!(mended, Mended { suspects: nothing.clone(), unmarked: BTreeSet::from([30001, 30002]) });
        let again = allocator.mend(allocator.now().await.expect("the store answers"), &in_use, &nothing).await.expect("mended");
        assert_eq!(again, Mended::default());
        // A Service that came after the bitmap was read has marked its own port.
        let seen = allocator.now().await.expect("the store answers");
        allocator.change(false, |map| Ok(map.take(30003))).await.expect("marked");
        let raced = allocator.mend(seen, &HashSet::from([30001, 30002, 30003]), &nothing).await.expect("mended");
        assert_eq!(raced, Mended::default());
        let wider = PortAllocator::new(30000..=30019, store);
        let moved = wider.mend(wider.now().await.expect("the store answers"), &in_use, &nothing).await.expect("mended");
        assert_eq!(moved, Mended::default());
        assert_eq!(wider.port_map(wider.now().await.expect("the store answers").as_ref()).taken().collect::<Vec<_>>(), [30001, 30002]);
    }

    #[test]
    fn a_full_range_gives_no_port() {
        let mut map = PortMap::new(30000..=30001);
        let mut both = [map.take_any(), map.take_any()];
        both.sort();
        assert_eq!(both, [Some(30000), Some(30001)]);
        assert_eq!(map.take_any(), None);
    }
}
