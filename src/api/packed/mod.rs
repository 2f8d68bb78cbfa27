//! Values of which many are alike, in little memory.
//!
//! Pods of one template have nearly the same JSON: they differ in names, times and addresses. Of such values one is kept whole, as the base of
//! the others, which are deltas against it. Whoever asks for the bytes has the very ones that were packed: that is checked when a delta is made.
//! Making the value again copies a dozen pieces, less than a microsecond for a pod. `delta.rs` (pure) makes deltas, `bases.rs` says which value
//! is whose base. A delta keeps its base for as long as it lives itself.

mod bases;
mod delta;

use std::{
    borrow::Cow,
    fmt,
    sync::{
        Arc, LazyLock, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use bytes::Bytes;

use self::{bases::Bases, delta::Places};

/// Those of this process.
static BASES: LazyLock<Bases> = LazyLock::new(Bases::default);

/// A value of the store. Clones share what is large.
#[derive(Clone)]
pub struct Packed(Form);

#[derive(Clone)]
enum Form {
    Whole(Bytes),
    /// Whole, and others are deltas against it, or may become such.
    Base(Arc<Base>),
    Delta {
        base: Arc<Base>,
        delta: Box<[u8]>,
    },
}

/// A value that others are described by.
struct Base {
    bytes: Bytes,
    /// Reckoned with the first delta, unless they were known before.
    places: OnceLock<Places>,
    is_asked_for: AtomicBool,
}

impl Base {
    fn new(bytes: Bytes) -> Self {
        Base { bytes, places: OnceLock::new(), is_asked_for: AtomicBool::new(false) }
    }

    /// The places are those of these bytes.
    fn with_places(bytes: Bytes, places: Places) -> Self {
        Base { places: places.into(), ..Base::new(bytes) }
    }

    fn places(&self) -> &Places {
        self.is_asked_for.store(true, Ordering::Relaxed);
        self.places.get_or_init(|| Places::of(&self.bytes))
    }

    /// Whether something was, or was to be, described by it.
    fn is_asked_for(&self) -> bool {
        self.is_asked_for.load(Ordering::Relaxed)
    }
}

impl From<Bytes> for Packed {
    fn from(value: Bytes) -> Self {
        Packed(Form::Whole(value))
    }
}

impl Packed {
    /// The value of the object of this name: in one piece, or as what it has not in common with one that is like it.
    pub fn new(value: Bytes, name: &str) -> Self {
        BASES.pack(value, name)
    }

    /// How many bytes the value has.
    pub fn length(&self) -> usize {
        match &self.0 {
            Form::Whole(bytes) => bytes.len(),
            Form::Base(base) => base.bytes.len(),
            Form::Delta { delta, .. } => delta::length(delta),
        }
    }

    /// Bytes whose beginning is the value's: all up to the first of its metadata.
    pub fn beginning(&self) -> &[u8] {
        match &self.0 {
            Form::Whole(bytes) => bytes,
            Form::Base(base) | Form::Delta { base, .. } => &base.bytes,
        }
    }

    /// The value, if it lies in one piece.
    pub fn in_one_piece(&self) -> Option<&Bytes> {
        match &self.0 {
            Form::Whole(bytes) => Some(bytes),
            Form::Base(base) => Some(&base.bytes),
            Form::Delta { .. } => None,
        }
    }

    /// The value; made for this where it does not lie in one piece.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        match self.in_one_piece() {
            Some(bytes) => Cow::Borrowed(bytes.as_ref()),
            None => Cow::Owned(self.made()),
        }
    }

    /// The same for who keeps it.
    pub fn to_bytes(&self) -> Bytes {
        self.in_one_piece().cloned().unwrap_or_else(|| self.made().into())
    }

    fn made(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.length());
        self.write_from(0, &mut out);
        out
    }

    /// Appends all of the value but its first `skipped` bytes.
    pub fn write_from(&self, skipped: usize, out: &mut Vec<u8>) {
        let Form::Delta { base, delta } = &self.0 else {
            return out.extend_from_slice(&self.beginning()[skipped..]);
        };
        out.reserve(delta::length(delta).saturating_sub(skipped));
        let mut skipped = skipped;
        for piece in delta::pieces(&base.bytes, delta) {
            let left_out = skipped.min(piece.len());
            skipped -= left_out;
            out.extend_from_slice(&piece[left_out..]);
        }
    }

    /// Bytes that it keeps in memory beside itself, roughly; the same for as long as it lives. What a delta has in common with its base is
    /// counted with the base's own value.
    pub fn footprint(&self) -> usize {
        const COUNTS: usize = 2 * size_of::<usize>();
        match &self.0 {
            Form::Whole(bytes) => bytes.len(),
            Form::Base(base) => COUNTS + size_of::<Base>() + base.bytes.len(),
            Form::Delta { delta, .. } => delta.len(),
        }
    }
}

/// Two are equal when their values are.
impl PartialEq for Packed {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl Eq for Packed {}

impl fmt::Debug for Packed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packed").field("length", &self.length()).field("footprint", &self.footprint()).finish()
    }
}
