//! Writes as etcd transactions: compare the key's mod revision, then write, else read what the key holds. Pure.

use bytes::Bytes;
use etcd_client::{
    Compare, CompareOp, PutOptions, Txn, TxnOp, TxnResponse,
    proto::{PbKeyValue, PbTxnOpResponse},
};
use troupe_api::meta::Revision;

use crate::store::{KeyValue, StoreError};

/// Writes `key` if its mod revision is `expected`, 0 where it must hold nothing. `lease` 0 is none.
pub fn put(key: &Bytes, value: &Bytes, expected: Revision, lease: i64) -> Txn {
    let options = PutOptions::new().with_lease(lease);
    guarded(key, expected, TxnOp::put(&**key, &**value, Some(options)))
}

/// Deletes `key` if its mod revision is `expected`.
pub fn delete(key: &Bytes, expected: Revision) -> Txn {
    guarded(key, expected, TxnOp::delete(&**key, None))
}

fn guarded(key: &Bytes, expected: Revision, operation: TxnOp) -> Txn {
    let holds = Compare::mod_revision(&**key, CompareOp::Equal, signed(expected));
    Txn::new().when([holds]).and_then([operation]).or_else([TxnOp::get(&**key, None)])
}

/// The write's own revision, or the conflict with what the key holds instead.
pub fn outcome(response: TxnResponse) -> Result<Revision, StoreError> {
    if response.succeeded() {
        let header = response.header().ok_or_else(|| StoreError::Unknown("etcd's answer has no revision".into()))?;
        return Ok(revision(header.revision()));
    }
    let reply = response.0.responses.into_iter().next().and_then(|reply| reply.response);
    let current = match reply {
        Some(PbTxnOpResponse::ResponseRange(range)) => range.kvs.into_iter().next().map(key_value),
        _ => None,
    };
    Err(StoreError::Conflict { current })
}

/// etcd's form of a key and value as ours; nothing is copied.
pub fn key_value(kv: PbKeyValue) -> KeyValue {
    KeyValue { key: kv.key.into(), value: kv.value.into(), create_revision: revision(kv.create_revision), mod_revision: revision(kv.mod_revision) }
}

/// etcd counts in signed numbers, and never below zero.
pub fn revision(signed: i64) -> Revision {
    Revision(u64::try_from(signed).unwrap_or(0))
}

/// A revision as etcd takes it.
pub fn signed(revision: Revision) -> i64 {
    i64::try_from(revision.0).unwrap_or(i64::MAX)
}
