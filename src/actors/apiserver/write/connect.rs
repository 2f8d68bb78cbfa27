//! Connections to subresources: nothing is written, and admission is asked as before writes.

use troupe_api::{
    meta::Object,
    service::{ConnectCall, WriteOptions},
    status::Status,
};
use troupe_api_server::admission::OperationOptions;

use super::WritePath;
use crate::apiserver::writer::Writer;

impl WritePath {
    /// Asks admission whether a connection may begin; gives its options as they are then.
    ///
    /// # Errors
    /// What refuses it.
    pub async fn admit_connect(&self, call: ConnectCall) -> Result<Object, Status> {
        let ConnectCall { user, target, mut options, cause, notices } = call;
        let writer = Writer { user, target, options: WriteOptions::default(), cause, notices };
        let attributes = self.admission.attributes(&writer, OperationOptions::Connect);
        self.admission.admit(attributes.with_object(&mut options)).await?;
        Ok(options)
    }
}
