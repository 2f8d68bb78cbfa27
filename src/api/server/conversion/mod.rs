//! Objects of custom resources in other versions than the one they were stored in (`spec.conversion` of their definition).
//!
//! In come stored objects and trees, out go the same in the version that is asked for, or the error of whoever could not convert. Without a
//! webhook only `apiVersion` differs, and what the schema of the other version does not know. A webhook is asked about many objects at once
//! (`review`, pure), in tasks of its own: whoever waits for the same object shares the answer, and answers are kept with their objects
//! within a budget (`memo`), so that each version of an object is converted once for all its readers. What is in the right version already
//! costs a look at its head.
//!
//! Nothing here is held while a webhook thinks but a place at that webhook and the bytes of its question.

mod ask;
mod memo;
pub mod metrics;
mod review;
#[cfg(test)]
mod tests;

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, LazyLock},
};

use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Semaphore};
use troupe_api::{
    aside,
    meta::Object,
    resources::{Resource, custom::Versions},
    status::{Reason, Status},
    stored::{StoredObject, encode_for_store},
};

use self::{ask::Question, review::Subject};
use crate::webhook_client::Client;

#[doc(hidden)]
pub use review::fuzzing;

/// Objects go to a webhook in questions of about this many bytes, and of no more than so many.
const QUESTION_BYTES: usize = 1 << 20;
const QUESTION_OBJECTS: usize = 250;
/// What all questions under way, with their answers, may take: a question counts for about what its answer may be as well.
const ROOM: usize = 96 << 20;

/// A question under way, with the answer for all who wait.
type Answer = Shared<BoxFuture<'static, Result<Arc<[Arc<StoredObject>]>, Status>>>;

/// An object whose conversion is under way.
struct Flight {
    /// Kept so that its address is nobody else's meanwhile.
    _object: Arc<StoredObject>,
    answer: Answer,
    /// Its place in the answer.
    at: usize,
}

/// The address of an object, and the `apiVersion` that it is converted to.
type FlightKey = (usize, Arc<str>);

fn flight_key(object: &Arc<StoredObject>, wanted: &Arc<str>) -> FlightKey {
    (Arc::as_ptr(object).addr(), wanted.clone())
}

/// Converts objects. Shared by all requests.
pub struct Converter {
    client: Arc<Client>,
    /// Where webhooks are asked, whichever thread wants to know.
    home: Handle,
    flights: Mutex<HashMap<FlightKey, Flight>>,
    room: Semaphore,
}

/// A way from one version to another that upstream has no status for.
fn failed(why: String) -> Status {
    Status::new(500, Reason::Unknown, why)
}

impl Converter {
    /// Asks webhooks through `client`, on the runtime that it is made on.
    pub fn new(client: Arc<Client>) -> Arc<Self> {
        Arc::new(Converter { client, home: Handle::current(), flights: Mutex::default(), room: Semaphore::new(ROOM) })
    }

    /// The objects as `version` of their resource shows them, in their order. Objects of built-in kinds stay as they are.
    ///
    /// # Errors
    /// 500 in upstream's words where one of them cannot be converted.
    pub async fn all(
        self: &Arc<Self>,
        resource: &Arc<Resource>,
        version: &str,
        mut objects: Vec<Arc<StoredObject>>,
    ) -> Result<Vec<Arc<StoredObject>>, Status> {
        let Some(versions) = resource.versions() else { return Ok(objects) };
        let wanted: Arc<str> = versions.api_version(version).into();
        let mut left = Vec::new();
        let mut bytes = 0;
        for (at, object) in objects.iter_mut().enumerate() {
            if object.api_version() == &*wanted {
                continue;
            }
            match memo::find(object, &wanted) {
                Some(known) => *object = known,
                None => {
                    versions.check(object.api_version(), &wanted).map_err(failed)?;
                    bytes += object.encoded_length();
                    left.push((at, object.clone()));
                }
            }
        }
        if left.is_empty() {
            return Ok(objects);
        }
        let converted = match versions.webhook() {
            None => {
                let (resource, version) = (resource.clone(), version.to_owned());
                aside::compute(bytes, move || left.iter().map(|(at, object)| Ok((*at, renamed(&resource, &version, object)?))).collect()).await
            }
            Some(_) => aside::elsewhere(self.asked(resource, &wanted, left)).await,
        };
        for (at, object) in converted? {
            objects[at] = object;
        }
        Ok(objects)
    }

    /// One object as `version` of its resource shows it.
    ///
    /// # Errors
    /// As [`Converter::all`].
    pub async fn one(self: &Arc<Self>, resource: &Arc<Resource>, version: &str, object: Arc<StoredObject>) -> Result<Arc<StoredObject>, Status> {
        let mut converted = self.all(resource, version, vec![object]).await?;
        converted.pop().ok_or_else(|| Status::internal("an object was lost on its way to another version"))
    }

    /// A tree, which need not be stored, in `version` of its resource.
    ///
    /// # Errors
    /// As [`Converter::all`].
    pub async fn tree(&self, resource: &Arc<Resource>, version: &str, mut tree: Object) -> Result<Object, Status> {
        let Some(versions) = resource.versions() else { return Ok(tree) };
        let wanted: Arc<str> = versions.api_version(version).into();
        if tree.api_version() == &*wanted {
            return Ok(tree);
        }
        versions.check(tree.api_version(), &wanted).map_err(failed)?;
        if versions.webhook().is_none() {
            versions.rename(&mut tree, version);
            return Ok(tree);
        }
        let question = Question { resource: resource.clone(), wanted, subjects: vec![Subject::of_tree(&tree)] };
        let mut answer = aside::elsewhere(self.ask(question)).await?;
        answer.pop().ok_or_else(|| Status::internal("an object was lost on its way to another version"))
    }

    /// Asks the webhook about objects, and waits for what others have asked already. Who fails for somebody else's object asks again alone.
    async fn asked(
        self: &Arc<Self>,
        resource: &Arc<Resource>,
        wanted: &Arc<str>,
        mut left: Vec<(usize, Arc<StoredObject>)>,
    ) -> Result<Vec<(usize, Arc<StoredObject>)>, Status> {
        let mut converted = Vec::with_capacity(left.len());
        for joins in [true, false] {
            let mut again = Vec::new();
            for (place, object, answer, at, is_own) in self.fly(resource, wanted, std::mem::take(&mut left), joins) {
                match answer.await {
                    Ok(objects) => converted.push((place, objects[at].clone())),
                    Err(status) if is_own => return Err(status),
                    Err(_) => again.push((place, object)),
                }
            }
            if again.is_empty() {
                break;
            }
            left = again;
        }
        Ok(converted)
    }

    /// Sees that somebody asks about each of the objects: place, object, answer, place in the answer, and whether it is asked for us.
    fn fly(
        self: &Arc<Self>,
        resource: &Arc<Resource>,
        wanted: &Arc<str>,
        objects: Vec<(usize, Arc<StoredObject>)>,
        joins: bool,
    ) -> Vec<(usize, Arc<StoredObject>, Answer, usize, bool)> {
        let mut flights = self.flights.lock();
        let (mut waits, mut own, mut repeated) = (Vec::with_capacity(objects.len()), Vec::new(), Vec::new());
        let mut asked = HashSet::new();
        for (place, object) in objects {
            match flights.get(&flight_key(&object, wanted)).filter(|_| joins) {
                Some(flight) => waits.push((place, object, flight.answer.clone(), flight.at, false)),
                None if asked.insert(Arc::as_ptr(&object)) => own.push((place, object)),
                None => repeated.push((place, object)),
            }
        }
        for question in questions(own) {
            let objects: Vec<_> = question.iter().map(|(_, object)| object.clone()).collect();
            let answer = self.depart(resource.clone(), wanted.clone(), objects);
            for (at, (place, object)) in question.into_iter().enumerate() {
                let flight = Flight { _object: object.clone(), answer: answer.clone(), at };
                flights.insert(flight_key(&object, wanted), flight);
                waits.push((place, object, answer.clone(), at, true));
            }
        }
        for (place, object) in repeated {
            if let Some(flight) = flights.get(&flight_key(&object, wanted)) {
                waits.push((place, object, flight.answer.clone(), flight.at, true));
            }
        }
        waits
    }

    /// Asks in a task of its own, which ends whoever waits for it.
    fn depart(self: &Arc<Self>, resource: Arc<Resource>, wanted: Arc<str>, objects: Vec<Arc<StoredObject>>) -> Answer {
        let landing = Landing { converter: self.clone(), keys: objects.iter().map(|object| flight_key(object, &wanted)).collect() };
        let converter = self.clone();
        let asking = self.home.spawn(async move {
            let _landing = landing;
            converter.convert(resource, wanted, objects).await
        });
        async move { asking.await.unwrap_or_else(|error| Err(Status::internal(format!("a conversion ended: {error}")))) }.boxed().shared()
    }

    async fn convert(&self, resource: Arc<Resource>, wanted: Arc<str>, objects: Vec<Arc<StoredObject>>) -> Result<Arc<[Arc<StoredObject>]>, Status> {
        let bytes = objects.iter().map(|object| object.encoded_length()).sum();
        let asked = objects.clone();
        let subjects = aside::compute(bytes, move || asked.iter().map(|object| Subject::of_stored(object)).collect()).await;
        let trees = self.ask(Question { resource, wanted, subjects }).await?;
        aside::compute(bytes, move || objects.iter().zip(trees).map(|(object, tree)| kept(object, &tree)).collect()).await
    }
}

/// Forgets flights that are over, however they ended.
struct Landing {
    converter: Arc<Converter>,
    keys: Vec<FlightKey>,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut flights = self.converter.flights.lock();
        for key in &self.keys {
            flights.remove(key);
        }
    }
}

/// Objects as they go to a webhook: so many in each question.
fn questions(objects: Vec<(usize, Arc<StoredObject>)>) -> Vec<Vec<(usize, Arc<StoredObject>)>> {
    let mut questions: Vec<Vec<_>> = Vec::new();
    let mut bytes = 0;
    for (place, object) in objects {
        let length = object.encoded_length();
        match questions.last_mut() {
            Some(last) if bytes + length <= QUESTION_BYTES && last.len() < QUESTION_OBJECTS => {
                bytes += length;
                last.push((place, object));
            }
            _ => {
                bytes = length;
                questions.push(vec![(place, object)]);
            }
        }
    }
    questions
}

/// A stored object under the name of another version.
fn renamed(resource: &Resource, version: &str, object: &Arc<StoredObject>) -> Result<Arc<StoredObject>, Status> {
    let mut tree = object.to_object();
    if let Some(versions) = resource.versions() {
        versions.rename(&mut tree, version);
    }
    kept(object, &tree)
}

/// Keeps what an object is in another version.
fn kept(object: &Arc<StoredObject>, tree: &Object) -> Result<Arc<StoredObject>, Status> {
    let converted = StoredObject::new(encode_for_store(tree), object.revision).map_err(Status::internal)?;
    let converted = Arc::new(converted);
    memo::keep(object, converted.clone());
    Ok(converted)
}

/// What a resource that nobody defined here is told.
static NOBODY: LazyLock<Status> = LazyLock::new(|| Status::internal("only objects of custom resources are converted"));

fn webhook_of(resource: &Resource) -> Result<(&Versions, &troupe_api::resources::custom::ConversionWebhook), Status> {
    let versions = resource.versions().ok_or_else(|| NOBODY.clone())?;
    Ok((versions, versions.webhook().ok_or_else(|| NOBODY.clone())?))
}
