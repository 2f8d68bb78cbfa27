//! Field ownership of objects whose managers speak several versions: conversions are asked for as they turn out to be needed.

use std::{cell::RefCell, sync::Arc};

use bytes::Bytes;
use troupe_api::{
    meta::Object,
    patch::ownership::{Spoken, Unconverted, Versions},
    resources::Resource,
    status::Status,
};

use super::WritePath;
use crate::apiserver::{
    objects::{self, Decoded},
    writer::Writer,
};

/// One computation needs no more conversions than this: two for each of some versions, and a few where something is removed.
const MOST: usize = 200;

impl WritePath {
    /// Records in `managedFields` who owns what changed between `old` and `new`, which is as it will be stored.
    pub(super) async fn track(&self, writer: &Writer, old: Option<&Object>, new: &mut Object) -> Result<(), Status> {
        let mut known = Conversions::new(&writer.target.resource);
        loop {
            match objects::track(writer, old, new, &known, self.clock.now()) {
                Ok(()) => return Ok(()),
                Err(why) => self.learn(&mut known, why).await?,
            }
        }
    }

    /// Server-side apply: what becomes of `current` (nothing, if it does not exist) under the applied configuration.
    /// The result carries its managedFields.
    pub(super) async fn apply(&self, writer: &Writer, current: Option<&Object>, patch: &Bytes) -> Result<Decoded, Status> {
        let mut known = Conversions::new(&writer.target.resource);
        loop {
            match objects::apply(writer, current, patch, &known, self.clock.now()) {
                Ok(applied) => return Ok(applied),
                Err(why) => self.learn(&mut known, why).await?,
            }
        }
    }

    /// Asks for the conversion that was missing.
    async fn learn(&self, known: &mut Conversions, why: Unconverted) -> Result<(), Status> {
        if let Unconverted::Failed(status) = why {
            return Err(status);
        }
        let wanted = known.wanted.take().filter(|_| known.known.len() < MOST);
        let (object, api_version) = wanted.ok_or_else(|| Status::internal("managedFields name too many versions"))?;
        let version = api_version.rsplit('/').next().unwrap_or_default();
        let converted = self.reader.versions.tree(&known.resource, version, object.clone()).await;
        known.known.push(Conversion { object, api_version, converted });
        Ok(())
    }
}

/// An object and what it is in another version.
struct Conversion {
    object: Object,
    api_version: String,
    converted: Result<Object, Status>,
}

/// The conversions that one computation needed so far.
struct Conversions {
    resource: Arc<Resource>,
    known: Vec<Conversion>,
    /// What it needs next.
    wanted: RefCell<Option<(Object, String)>>,
}

impl Conversions {
    fn new(resource: &Arc<Resource>) -> Self {
        Conversions { resource: resource.clone(), known: Vec::new(), wanted: RefCell::default() }
    }
}

impl Versions for Conversions {
    fn spoken(&self, api_version: &str) -> Spoken {
        // Built-in kinds are compared in the one version that they are stored in.
        let Some(versions) = self.resource.versions() else { return Spoken::Same };
        versions.schema_of(api_version).map_or(Spoken::Gone, |schema| Spoken::Other(schema.schema().clone()))
    }

    fn convert(&self, object: &Object, api_version: &str) -> Result<Object, Unconverted> {
        match self.known.iter().find(|known| known.api_version == api_version && known.object == *object) {
            Some(known) => known.converted.clone().map_err(Unconverted::Failed),
            None => {
                *self.wanted.borrow_mut() = Some((object.clone(), api_version.to_owned()));
                Err(Unconverted::NotYet)
            }
        }
    }
}
