//! What selectors say of devices, remembered for as long as the slices are that publish them: it depends on nothing else, and many pods ask
//! with the same selectors.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use k8s_openapi::api::resource::v1::ResourceSlice;
use parking_lot::Mutex;

use super::Selected;

/// What all that is kept may take, in bytes. Whoever is forgotten is asked again.
const MOST: usize = 16 << 20;
/// What a selector takes for a slice beside a byte for each device.
const OF_ENTRY: usize = 128;

/// A selector: a digest of its text.
pub type SelectorId = [u8; 16];

/// What one selector says of the devices of a slice, by their places.
struct Said {
    /// Nothing yet, that one is not selected, or that it is.
    of: Vec<Option<bool>>,
    /// Where it cannot say.
    errors: HashMap<usize, Arc<str>>,
}

/// What is remembered of one version of a slice.
struct OfSlice {
    slice: Weak<ResourceSlice>,
    by_selector: HashMap<SelectorId, Said>,
}

#[derive(Default)]
struct Kept {
    /// By the names of slices.
    slices: HashMap<String, OfSlice>,
    /// What they take, in bytes.
    size: usize,
}

/// See the module.
#[derive(Default)]
pub struct Verdicts(Mutex<Kept>);

impl Verdicts {
    /// What a selector said of the device at a place of this version of a slice.
    pub fn get(&self, slice: &Arc<ResourceSlice>, place: usize, selector: &SelectorId) -> Option<Selected> {
        let kept = self.0.lock();
        let known = kept.slices.get(name_of(slice)).filter(|known| is_of(known, slice))?;
        let said = known.by_selector.get(selector)?;
        match said.errors.get(&place) {
            Some(why) => Some(Err(why.to_string())),
            None => said.of.get(place).copied().flatten().map(Ok),
        }
    }

    /// A selector was asked.
    pub fn set(&self, slice: &Arc<ResourceSlice>, place: usize, selector: SelectorId, verdict: &Selected) {
        let devices = slice.spec.devices.as_ref().map_or(0, Vec::len);
        let mut kept = self.0.lock();
        if kept.size > MOST {
            *kept = Kept::default();
        }
        if kept.slices.get(name_of(slice)).is_some_and(|known| !is_of(known, slice)) {
            kept.forget(name_of(slice));
        }
        let Kept { slices, size } = &mut *kept;
        let known = slices.entry(name_of(slice).to_owned()).or_insert_with(|| OfSlice { slice: Arc::downgrade(slice), by_selector: HashMap::new() });
        let said = known.by_selector.entry(selector).or_insert_with(|| {
            *size += OF_ENTRY + devices;
            Said { of: vec![None; devices], errors: HashMap::new() }
        });
        match verdict {
            Ok(selected) => {
                if let Some(of) = said.of.get_mut(place) {
                    *of = Some(*selected);
                }
            }
            Err(why) => {
                if said.errors.insert(place, why.as_str().into()).is_none() {
                    *size += OF_ENTRY + why.len();
                }
            }
        }
    }

    /// A slice has changed or is gone.
    pub fn forget(&self, slice: &str) {
        self.0.lock().forget(slice);
    }
}

impl Kept {
    fn forget(&mut self, slice: &str) {
        let Some(known) = self.slices.remove(slice) else { return };
        let of_errors = |said: &Said| said.errors.values().map(|why| OF_ENTRY + why.len()).sum::<usize>();
        let size: usize = known.by_selector.values().map(|said| OF_ENTRY + said.of.len() + of_errors(said)).sum();
        self.size = self.size.saturating_sub(size);
    }
}

fn name_of(slice: &ResourceSlice) -> &str {
    slice.metadata.name.as_deref().unwrap_or_default()
}

/// As long as the weak one is there, its address is given to no other version.
fn is_of(known: &OfSlice, slice: &Arc<ResourceSlice>) -> bool {
    std::ptr::eq(known.slice.as_ptr(), Arc::as_ptr(slice))
}

#[cfg(test)]
mod tests {
    use serde_json::{from_value, json};

    use super::*;

    fn slice() -> Arc<ResourceSlice> {
        let spec = json!({"driver": "d", "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}, "devices": [{"name": "a"}, {"name": "b"}]});
        Arc::new(from_value(json!({"metadata": {"name": "s"}, "spec": spec})).expect("a slice"))
    }

    #[test]
    fn what_was_said_holds_for_one_version_of_a_slice() {
        let (verdicts, first, second) = (Verdicts::default(), slice(), slice());
        let (one, other) = ([1; 16], [2; 16]);
        assert_eq!(verdicts.get(&first, 0, &one), None);
        verdicts.set(&first, 0, one, &Ok(true));
        verdicts.set(&first, 1, one, &Err("no such key".into()));
        verdicts.set(&first, 0, other, &Ok(false));
        assert_eq!((verdicts.get(&first, 0, &one), verdicts.get(&first, 0, &other)), (Some(Ok(true)), Some(Ok(false))));
        assert_eq!((verdicts.get(&first, 1, &one), verdicts.get(&first, 1, &other)), (Some(Err("no such key".into())), None));
        assert_eq!(verdicts.get(&second, 0, &one), None, "that is another version");
        verdicts.set(&second, 0, one, &Ok(false));
        assert_eq!((verdicts.get(&first, 0, &one), verdicts.get(&second, 0, &one)), (None, Some(Ok(false))));
        verdicts.forget("s");
        assert_eq!((verdicts.get(&second, 0, &one), verdicts.0.lock().size), (None, 0));
    }

    #[test]
    fn no_more_is_kept_than_there_is_room_for() {
        let (verdicts, slice) = (Verdicts::default(), slice());
        for number in 0..200_000_u32 {
            let mut selector = [0; 16];
            selector[..4].copy_from_slice(&number.to_le_bytes());
            verdicts.set(&slice, 0, selector, &Ok(true));
            assert_eq!(verdicts.get(&slice, 0, &selector), Some(Ok(true)));
        }
        assert!(verdicts.0.lock().size <= MOST + OF_ENTRY + 2);
    }
}
