//! Connections to subresources: nothing is written, and admission is asked as before writes.

use troupe_api::{
    admission::OperationOptions,
    service::{ConnectCall, WriteOptions},
    status::Status,
};

use super::Writer;
use crate::apiserver::core::Core;

impl Core {
    /// Asks admission whether a connection may begin.
    ///
    /// # Errors
    /// What refuses it.
    pub async fn admit_connect(&self, call: ConnectCall) -> Result<(), Status> {
        let ConnectCall { user, target, mut options, cause, notices } = call;
        let writer = Writer { user, target, options: WriteOptions::default(), cause, notices };
        let mut admission = writer.attributes_of(self, OperationOptions::Connect).with_object(&mut options);
        self.admission.admit(&mut admission).await?;
        self.admission.validate(&admission).await
    }
}
