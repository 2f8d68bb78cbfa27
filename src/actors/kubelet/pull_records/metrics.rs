//! What is counted of records of pulls, by upstream's names. There is no cache of them in memory here, so that upstream's figures of one are missing.

use troupe_api::metrics::{Counter, Family, Gauge};

pub static INTENTS: Family<Gauge> = Family::new("kubelet_imagemanager_ondisk_pullintents", "Number of ImagePullIntents stored on disk.", &[]);
pub static RECORDS: Family<Gauge> = Family::new("kubelet_imagemanager_ondisk_pulledrecords", "Number of ImagePulledRecords stored on disk.", &[]);
pub static CHECKS: Family<Counter> = Family::new(
    "kubelet_imagemanager_image_mustpull_checks_total",
    "Counter for how many times kubelet checked whether credentials need to be re-verified to access an image",
    &["result"],
);

/// What looking whether a pod may use an image came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// The policy lets everybody use it.
    Policy,
    /// Somebody pulled it with what the pod has, too.
    Record,
    /// It has to be pulled again.
    Unknown,
    /// The records could not be read.
    Failed,
}

impl Checked {
    fn label(self) -> &'static str {
        match self {
            Checked::Policy => "credentialPolicyAllowed",
            Checked::Record => "credentialRecordFound",
            Checked::Unknown => "mustAuthenticate",
            Checked::Failed => "error",
        }
    }
}

/// It was looked.
pub fn checked(outcome: Checked) {
    CHECKS.with(&[outcome.label()]).increment();
}

/// So many are on disk.
pub(super) fn kept(intents: usize, records: usize) {
    INTENTS.with(&[]).set_count(intents);
    RECORDS.with(&[]).set_count(records);
}
